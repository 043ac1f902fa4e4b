//! What the parsers of a policy's parts share.

use std::{collections::HashMap, time::Duration};

use serde_saphyr::Spanned;

use super::{problems::Problems, references::References, yaml::line};
use crate::{expr::Expression, limit::Limit, problem::POLICY_FILE};

const MAX_TEXT_CHARS: usize = 1_000;

/// Collects the problems, references and exclusions of a policy while its parts are read.
pub(super) struct Reader {
    pub(super) problems: Problems,
    pub(super) references: References,
    pub(super) exclusions: HashMap<String, Expression>,
    /// The periods of limits, and the lines of their first mention.
    periods: HashMap<String, (Duration, u64)>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            problems: Problems::new(POLICY_FILE),
            references: References::default(),
            exclusions: HashMap::new(),
            periods: HashMap::new(),
        }
    }

    /// Checks that limits with one id, which share their sums, add up over the same period.
    pub(super) fn one_period(&mut self, limit: &Limit) {
        let (within, first) =
            *self.periods.entry(limit.identity.clone()).or_insert((limit.within, limit.line));
        if within != limit.within {
            let message =
                format!("the limit {:?} has another within than the one on line {first}", limit.identity);
            self.problems.add(limit.line, message, "write the same within, or give one of them another id");
        }
    }

    /// Checks the length of a text that people read.
    pub(super) fn short(&mut self, field: &str, text: &Spanned<String>) {
        let chars = text.value.chars().count();
        if chars > MAX_TEXT_CHARS {
            let message = format!("the {field} has {chars} characters");
            self.problems.add(line(text), message, format!("shorten it to at most {MAX_TEXT_CHARS}"));
        }
    }
}
