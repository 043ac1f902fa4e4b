//! What is wrong with a configuration, and where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name under which problems of [`Sources::policy`](crate::Sources::policy) are reported.
pub const POLICY_FILE: &str = "policy.yaml";
/// The name under which problems of [`Sources::tools`](crate::Sources::tools) are reported.
pub const TOOLS_FILE: &str = "tools.yaml";
/// The name under which problems of [`Sources::directory`](crate::Sources::directory) are reported.
pub const DIRECTORY_FILE: &str = "directory.yaml";
/// The name under which problems of policy cases are reported.
pub const CASES_FILE: &str = "policy_test.yaml";

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file, such as `policy.yaml`.
    pub file: String,
    /// The line, counted from 1; `None` if the problem has no single place.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Problem {
    pub(crate) fn new(file: &str, line: u64, message: impl Into<String>, help: impl Into<String>) -> Self {
        // The YAML parser reports line 0 where it does not know the place.
        let line = (line > 0).then_some(line);
        Self { file: file.to_owned(), line, message: message.into(), help: help.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}; {}", self.file, self.message, self.help),
            None => write!(f, "{}: {}; {}", self.file, self.message, self.help),
        }
    }
}

impl std::error::Error for Problem {}
