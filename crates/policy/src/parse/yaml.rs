//! Reads YAML within limits.

use serde::de::DeserializeOwned;
use serde_saphyr::Spanned;

use crate::problem::Problem;

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Parses one document. Limits keep nested aliases from expanding without bound.
pub(crate) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Vec<Problem>> {
    if text.len() > MAX_BYTES {
        return Err(vec![Problem::new(
            file,
            0,
            format!("the file has {} bytes", text.len()),
            format!("shorten it to at most {MAX_BYTES} bytes"),
        )]);
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 48,
            max_nodes: 50_000,
            max_events: 100_000,
            max_aliases: 256,
            max_anchors: 64,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| vec![from_parser(file, &error)])
}

fn from_parser(file: &str, error: &serde_saphyr::Error) -> Problem {
    let line = error.location().map_or(0, |location| location.line());
    let message = error.without_snippet().to_string();
    // The problem has a field for the line, and the author of the file cannot set options of the parser.
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
    let help = if message.contains("unknown field") || message.contains("unknown variant") {
        "use one of the names that the message lists"
    } else if message.contains("missing field") {
        "add the field"
    } else if message.contains("duplicate mapping key") {
        "write each key only once"
    } else if message.contains("budget") || message.contains("limit") {
        "make the document shorter and flatter, and use fewer aliases"
    } else {
        "correct the YAML at this line"
    };
    Problem::new(file, line, message, help)
}

/// The line on which a value stands.
pub(crate) fn line<T>(value: &Spanned<T>) -> u64 {
    value.referenced.line()
}

/// Ids of rules, groups, agents and people: `[a-z0-9][a-z0-9._-]{0,63}`.
pub(crate) fn is_id(text: &str) -> bool {
    is_name(text) && !text.contains(|c: char| c.is_ascii_uppercase())
}

/// Names of tools: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
