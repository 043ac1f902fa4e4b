//! What the parsers of a policy's parts share.

use std::collections::HashMap;

use serde_saphyr::Spanned;

use super::{problems::Problems, references::References, yaml::line};
use crate::{expr::Expression, problem::POLICY_FILE};

const MAX_TEXT_CHARS: usize = 1_000;

/// Collects the problems, references and exclusions of a policy while its parts are read.
pub(super) struct Reader {
    pub(super) problems: Problems,
    pub(super) references: References,
    pub(super) exclusions: HashMap<String, Expression>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            problems: Problems::new(POLICY_FILE),
            references: References::default(),
            exclusions: HashMap::new(),
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
