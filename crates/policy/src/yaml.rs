//! Reading YAML, and the small rules that all three files share.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_saphyr::Spanned;

use super::Problem;

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Parses one document, within limits that stop aliases from growing into a bomb.
pub(super) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Vec<Problem>> {
    if text.len() > MAX_BYTES {
        return Err(vec![Problem::new(
            file,
            0,
            format!("the file has {} bytes", text.len()),
            format!("keep it within {MAX_BYTES} bytes"),
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
    // The line has its own place, and the parser's options are not the author's.
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
    let help = if message.contains("unknown field") || message.contains("unknown variant") {
        "use one of the names that the message lists"
    } else if message.contains("missing field") {
        "add the field"
    } else if message.contains("duplicate mapping key") {
        "write each key once"
    } else if message.contains("budget") || message.contains("limit") {
        "write the values out in fewer and flatter lines, with fewer aliases"
    } else {
        "correct the YAML at this place"
    };
    Problem::new(file, line, message, help)
}

/// The line on which a value stands.
pub(super) fn line<T>(value: &Spanned<T>) -> u64 {
    value.referenced.line()
}

/// Ids of rules, groups, agents and people: `[a-z0-9][a-z0-9._-]{0,63}`.
pub(super) fn is_id(text: &str) -> bool {
    is_name(text) && !text.contains(|c: char| c.is_ascii_uppercase())
}

/// Names of tools: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// The help for a text that [`is_id`] refuses.
pub(super) const ID_HELP: &str =
    "use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";

/// Collects the problems of one file.
pub(super) struct Problems {
    file: &'static str,
    found: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &'static str) -> Self {
        Self { file, found: Vec::new() }
    }

    pub(super) fn add(&mut self, line: u64, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(Problem::new(self.file, line, message, help));
    }

    /// An id, checked.
    pub(super) fn id(&mut self, what: &str, id: &Spanned<String>) {
        if !is_id(&id.value) {
            self.add(line(id), format!("{:?} is not the id of {what}", id.value), ID_HELP);
        }
    }

    /// A length of time such as `30m`, within bounds.
    pub(super) fn duration(
        &mut self,
        field: &str,
        text: &Spanned<String>,
        least: Duration,
        most: Duration,
    ) -> Duration {
        let bounds = || {
            let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
            format!("write a time from {least} to {most}, such as 500ms, 5s, 30m or 24h")
        };
        match humantime::parse_duration(&text.value) {
            Ok(time) if time >= least && time <= most => return time,
            Ok(_) => self.add(line(text), format!("{field} {:?} is out of bounds", text.value), bounds()),
            Err(error) => {
                self.add(line(text), format!("{field} {:?} is not a time: {error}", text.value), bounds());
            }
        }
        least
    }

    /// `value` if nothing was found.
    pub(super) fn unless_found<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.found.is_empty() { Ok(value) } else { Err(self.found) }
    }

    /// What was found, where a value could not be made.
    pub(super) fn refused<T>(self) -> Result<T, Vec<Problem>> {
        Err(self.found)
    }
}
