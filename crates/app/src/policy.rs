//! Policies: check one, explain what it decides, run its test cases.

use chrono::{DateTime, Utc};
pub use countersign_policy::CaseResult;
use countersign_policy::{Configuration, Explanation, Facts, run_cases};
use serde::Serialize;
use serde_json::Value;

use crate::{AppError, configuration::problems};

/// The summary of a configuration without problems.
#[derive(Clone, Debug, Serialize)]
pub struct CheckedPolicy {
    /// Always true; a problem is an error.
    pub in_order: bool,
    /// The policy's version.
    pub policy_version: String,
    /// What is valid and still hardly meant.
    pub warnings: Vec<String>,
}

/// Summarises a checked configuration.
pub fn check(configuration: &Configuration) -> CheckedPolicy {
    CheckedPolicy {
        in_order: true,
        policy_version: configuration.policy.version().to_owned(),
        warnings: configuration.warnings.iter().map(ToString::to_string).collect(),
    }
}

/// Which rule decides the action that the event `proposal` proposes, and why the others don't.
///
/// # Errors
/// If the action would be denied before the policy is evaluated: its tool is unknown, or its arguments do not match the
/// schema.
pub fn explain(
    configuration: &Configuration,
    proposal: &Value,
    now: DateTime<Utc>,
) -> Result<Explanation, AppError> {
    let mut action = proposal["data"].clone();
    action["source"] = proposal["source"].clone();
    action["id"] = proposal["id"].clone();
    let name = action["tool"].as_str().unwrap_or_default();
    let tool = configuration.tools.get(name).ok_or_else(|| {
        AppError::Usage(format!("there is no tool {name:?} in tools.yaml: the action would be denied"))
    })?;
    tool.check_arguments(&action["arguments"]).map_err(|complaint| {
        AppError::Usage(format!("the action would be denied before the policy is evaluated: {complaint}"))
    })?;
    let facts = Facts { action: &action, agent: &action["agent"], tool, now };
    Ok(configuration.policy.explain(&facts))
}

/// Runs the cases of a `policy_test.yaml`.
///
/// # Errors
/// If the file has problems. A failed case is a result, not an error.
pub fn test(configuration: &Configuration, cases: &str) -> Result<Vec<CaseResult>, AppError> {
    run_cases(configuration, cases).map_err(|found| AppError::Usage(problems(&found)))
}
