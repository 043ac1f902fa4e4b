//! The governed configuration of one generation: policy, tools and directory.
//!
//! Everything is parsed and checked before anything uses it, and every problem is reported at once,
//! each with its file, its line and what to write instead. A configuration that does not check does
//! not exist: there is no way to hold a half-valid one.

mod approval_file;
mod audit_file;
mod cases;
mod connector_file;
mod directory;
mod directory_file;
mod enrol;
mod explanation;
mod expr;
mod limit_file;
mod policy;
mod policy_file;
mod schema;
mod tools;
mod tools_file;
mod yaml;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use audit_file::{AuditSpec, Audits, Switching};
pub use cases::{CaseResult, run_cases};
pub use countersign_core::sources::Sources;
pub use directory::{
    Agent, App, Authority, ComplianceReader, Directory, KeyRefusal, Member, Operator, PublicKey, Sender,
};
pub use enrol::{keys_of, with_keys};
pub use explanation::{Explanation, Look, Looked};
pub use limit_file::LimitUse;
pub use policy::{Evaluation, Facts, INTAKE, Policy, RuleError};
pub use tools::{AmqpConnector, Connector, Egress, HttpConnector, Reversible, Tool, ToolRegistry};

/// The name under which problems of [`Sources::policy`] are reported.
pub const POLICY_FILE: &str = "policy.yaml";
/// The name under which problems of [`Sources::tools`] are reported.
pub const TOOLS_FILE: &str = "tools.yaml";
/// The name under which problems of [`Sources::directory`] are reported.
pub const DIRECTORY_FILE: &str = "directory.yaml";
/// The name under which problems of policy cases are reported.
pub const CASES_FILE: &str = "policy_test.yaml";

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file, such as `policy.yaml`.
    pub file: String,
    /// The line, counted from 1, where known.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Problem {
    fn new(file: &str, line: u64, message: impl Into<String>, help: impl Into<String>) -> Self {
        // The parser reports line 0 where it does not know the place.
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

/// A checked configuration.
#[derive(Debug)]
pub struct Configuration {
    /// Which verdict an action gets.
    pub policy: Policy,
    /// What an action may do, and how.
    pub tools: ToolRegistry,
    /// Who takes part.
    pub directory: Directory,
}

impl Configuration {
    /// Parses and checks the three texts, each alone and against each other.
    ///
    /// # Errors
    /// Every problem found.
    pub fn parse(sources: &Sources) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut keep = |found: Vec<Problem>| problems.extend(found);
        let directory = directory_file::parse(&sources.directory).map_err(&mut keep).ok();
        let tools = tools_file::parse(&sources.tools).map_err(&mut keep).ok();
        let policy = policy_file::parse(&sources.policy).map_err(&mut keep).ok();
        if let Some((_, references)) = &policy {
            if let Some(directory) = &directory {
                keep(references.check_groups(directory));
            }
            if let Some(tools) = &tools {
                keep(references.check_tools(tools));
            }
        }
        match (policy, tools, directory) {
            (Some((policy, _)), Some(tools), Some(directory)) if problems.is_empty() => {
                Ok(Self { policy, tools, directory })
            }
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests;
