//! `policy_test.yaml`.

use chrono::{DateTime, Utc};
use countersign_core::verdict::Verdict;
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{
    problems::Problems,
    yaml::{self, line},
};
use crate::problem::{CASES_FILE, Problem};

/// The time of a case that has no `now`: 2026-01-01 00:00 UTC, a Thursday.
const DEFAULT_NOW: DateTime<Utc> = match DateTime::from_timestamp(1_767_225_600, 0) {
    Some(time) => time,
    None => DateTime::UNIX_EPOCH,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    cases: Vec<CaseEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseEntry {
    name: Spanned<String>,
    action: Spanned<Value>,
    now: Option<Spanned<String>>,
    expect: Expectation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    verdict: Verdict,
    rule: Spanned<String>,
}

/// A checked case.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) line: u64,
    pub(crate) action: Value,
    pub(crate) now: DateTime<Utc>,
    pub(crate) expected: (Verdict, String),
}

/// Parses the cases and checks them against the ids of the policy's rules.
pub(crate) fn parse(text: &str, rules: &[&str]) -> Result<Vec<Case>, Vec<Problem>> {
    let document: Document = yaml::read(CASES_FILE, text)?;
    let mut problems = Problems::new(CASES_FILE);
    let mut cases = Vec::with_capacity(document.cases.len());
    for case in document.cases {
        let rule = case.expect.rule;
        if !rules.contains(&rule.value.as_str()) {
            let help = format!("write one of {}", rules.join(", "));
            problems.add(line(&rule), format!("the policy has no rule {:?}", rule.value), help);
        }
        let now = match &case.now {
            Some(now) => problems.time("now", line(now), &now.value).unwrap_or(DEFAULT_NOW),
            None => DEFAULT_NOW,
        };
        cases.push(Case {
            line: line(&case.name),
            name: case.name.value,
            action: case.action.value,
            now,
            expected: (case.expect.verdict, rule.value),
        });
    }
    problems.unless_found(cases)
}
