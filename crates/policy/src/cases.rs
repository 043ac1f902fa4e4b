//! Test cases of a policy: actions with the evaluation that the policy's author expects.

use chrono::{DateTime, Utc};
use countersign_core::verdict::Verdict;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    configuration::Configuration,
    facts::Facts,
    parse::cases::{self, Case},
    problem::Problem,
};

/// The result of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// The line of the case.
    pub line: u64,
    /// Whether the policy returned the expected verdict and rule.
    pub passed: bool,
    /// The expected verdict and rule.
    pub expected: (Verdict, String),
    /// The policy's verdict and rule; `None` if the action would be denied before the policy is evaluated.
    pub got: Option<(Verdict, String)>,
    /// The rule's text, or why the policy was not evaluated.
    pub message: String,
}

/// Runs the cases of `policy_test.yaml`.
///
/// # Errors
/// Every problem of the file itself. A case that does not pass is a result, not an error.
pub fn run_cases(configuration: &Configuration, text: &str) -> Result<Vec<CaseResult>, Vec<Problem>> {
    let rules: Vec<&str> = configuration.policy.rule_ids().collect();
    let cases = cases::parse(text, &rules)?;
    Ok(cases.into_iter().map(|case| run(configuration, case)).collect())
}

fn run(configuration: &Configuration, case: Case) -> CaseResult {
    let (got, message) = match evaluate(configuration, &case.action, case.now) {
        Ok((got, text)) => (Some(got), text),
        Err(message) => (None, message),
    };
    CaseResult {
        passed: got.as_ref() == Some(&case.expected),
        name: case.name,
        line: case.line,
        expected: case.expected,
        got,
        message,
    }
}

/// The verdict and rule, and the rule's text.
type Evaluated = ((Verdict, String), String);

/// Evaluates a case as the router would, which does not evaluate the policy for an unknown tool or for
/// arguments that do not match the tool's schema.
fn evaluate(configuration: &Configuration, action: &Value, now: DateTime<Utc>) -> Result<Evaluated, String> {
    let name = action.get("tool").and_then(Value::as_str).unwrap_or_default();
    let tool = configuration.tools.get(name).ok_or_else(|| format!("unknown tool {name:?}"))?;
    let none = Value::Object(Map::new());
    tool.check_arguments(action.get("arguments").unwrap_or(&none))?;
    let agent = action.get("agent").unwrap_or(&none);
    let evaluation = configuration.policy.evaluate(&Facts { action, agent, tool, now });
    Ok(((evaluation.verdict, evaluation.rule.to_owned()), evaluation.text))
}
