//! `policy_test.yaml`: actions with the evaluation that their author expects.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::policy::Facts;
use super::yaml::{self, Problems, line};
use super::{CASES_FILE, Configuration, Problem};
use countersign_core::verdict::Verdict;

/// The time of a case that gives none: 2026-01-01 00:00 UTC, a Thursday.
const DEFAULT_NOW: DateTime<Utc> = match DateTime::from_timestamp(1_767_225_600, 0) {
    Some(time) => time,
    None => DateTime::UNIX_EPOCH,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCases {
    cases: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: Spanned<String>,
    action: Spanned<Value>,
    now: Option<Spanned<String>>,
    expect: RawExpect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpect {
    verdict: Verdict,
    rule: Spanned<String>,
}

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// The line of the case.
    pub line: u64,
    /// Whether the policy said what is expected.
    pub passed: bool,
    /// The expected verdict and rule.
    pub expected: (Verdict, String),
    /// The verdict and rule that the policy gave; none where it was not asked.
    pub got: Option<(Verdict, String)>,
    /// Why: the rule's text, or why the policy was not asked.
    pub message: String,
}

/// Runs the cases of `policy_test.yaml`.
///
/// # Errors
/// Every problem of the file itself. A case that does not pass is a result, not an error.
pub fn run_cases(configuration: &Configuration, text: &str) -> Result<Vec<CaseResult>, Vec<Problem>> {
    let raw: RawCases = yaml::read(CASES_FILE, text)?;
    let mut problems = Problems::new(CASES_FILE);
    let rules: Vec<&str> = configuration.policy.rule_ids().collect();
    let mut results = Vec::new();
    for case in &raw.cases {
        let rule = &case.expect.rule;
        if !rules.contains(&rule.value.as_str()) {
            let help = format!("write one of {}", rules.join(", "));
            problems.add(line(rule), format!("the policy has no rule {:?}", rule.value), help);
        }
        if let Some(now) = read_now(case, &mut problems) {
            results.push(run(configuration, case, now));
        }
    }
    problems.unless_found(results)
}

fn read_now(case: &RawCase, problems: &mut Problems) -> Option<DateTime<Utc>> {
    let Some(now) = &case.now else { return Some(DEFAULT_NOW) };
    match DateTime::parse_from_rfc3339(&now.value) {
        Ok(time) => Some(time.to_utc()),
        Err(error) => {
            let message = format!("now {:?} is not a time: {error}", now.value);
            problems.add(line(now), message, "write RFC 3339, such as 2026-11-22T12:00:00Z");
            None
        }
    }
}

fn run(configuration: &Configuration, case: &RawCase, now: DateTime<Utc>) -> CaseResult {
    let expected = (case.expect.verdict, case.expect.rule.value.clone());
    let asked = ask(configuration, &case.action.value, now);
    let (got, message) = match asked {
        Ok((got, text)) => (Some(got), text),
        Err(message) => (None, message),
    };
    CaseResult {
        name: case.name.value.clone(),
        line: line(&case.name),
        passed: got.as_ref() == Some(&expected),
        expected,
        got,
        message,
    }
}

type Asked = ((Verdict, String), String);

/// Judges a case as the router would, which never asks the policy about an unknown tool or
/// arguments that do not fit.
fn ask(configuration: &Configuration, action: &Value, now: DateTime<Utc>) -> Result<Asked, String> {
    let name = action.get("tool").and_then(Value::as_str).unwrap_or_default();
    let tool = configuration.tools.get(name).ok_or_else(|| format!("unknown tool {name:?}"))?;
    let none = Value::Object(Map::new());
    tool.check_arguments(action.get("arguments").unwrap_or(&none))?;
    let agent = action.get("agent").unwrap_or(&none);
    let evaluation = configuration.policy.evaluate(&Facts { action, agent, tool, now });
    Ok(((evaluation.verdict, evaluation.rule.to_owned()), evaluation.text))
}
