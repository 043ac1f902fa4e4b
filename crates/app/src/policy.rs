//! Policies: check one, explain what it decides, run its test cases.

use chrono::{DateTime, Utc};
pub use countersign_policy::CaseResult;
use countersign_policy::{Configuration, Explanation, Facts, run_cases};
use serde::Serialize;
use serde_json::Value;

use crate::{AppError, configuration::problems};

/// A configuration that checks.
#[derive(Clone, Debug, Serialize)]
pub struct CheckedPolicy {
    /// Always true: what is not in order is an error.
    pub in_order: bool,
    /// The policy's version.
    pub policy_version: String,
}

/// What a check of a configuration says.
pub fn check(configuration: &Configuration) -> CheckedPolicy {
    CheckedPolicy { in_order: true, policy_version: configuration.policy.version().to_owned() }
}

/// Which rule decides the action that the event `proposal` proposes, and why the others don't.
///
/// # Errors
/// Where the action would be denied before policy is asked: its tool is unknown, or its arguments do not fit the tool.
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
/// Where the file does not check. A case that fails is no error but an answer.
pub fn test(configuration: &Configuration, cases: &str) -> Result<Vec<CaseResult>, AppError> {
    run_cases(configuration, cases).map_err(|found| AppError::Usage(problems(&found)))
}
