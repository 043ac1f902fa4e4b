//! An evaluation with the result of each rule, for people who write policies.

use std::{fmt, time::Duration};

use countersign_core::{approval::ApprovalSpec, verdict::Verdict};
use serde::{Deserialize, Serialize};

use crate::{audit::AuditSpec, evaluation::RuleError, score::Score};

/// The result of a rule's condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleResult {
    /// It is true: this rule decides.
    Matched,
    /// It is false.
    NotMatched,
    /// It could not be evaluated, for this reason.
    Errored(String),
}

/// One rule that was evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTrace {
    /// The rule's id.
    pub rule: String,
    /// Its condition.
    pub when: String,
    /// The condition's result; `looked` in JSON.
    #[serde(rename = "looked")]
    pub result: RuleResult,
}

/// An evaluation with the result of each rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The policy's version.
    pub policy_version: String,
    /// The digest of the policy's text.
    pub policy_digest: String,
    /// The rules in the order of their evaluation; if a rule decided, it is the last. `looks` in JSON.
    #[serde(rename = "looks")]
    pub trace: Vec<RuleTrace>,
    /// The verdict.
    pub verdict: Verdict,
    /// The id of the rule that decided, `default` or `on-error`.
    pub rule: String,
    /// The rule's description, or its condition if it has none.
    pub text: String,
    /// Why an action is denied.
    pub reason: Option<String>,
    /// Who approves.
    pub approval: Option<ApprovalSpec>,
    /// How often such actions are audited once executed.
    pub audit: AuditSpec,
    /// How likely the action is wrong, if the rule has a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// The rule that could not be evaluated.
    pub errored: Option<RuleError>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy {} ({})", self.policy_version, self.policy_digest)?;
        for rule in &self.trace {
            let result = match &rule.result {
                RuleResult::Matched => "matched".to_owned(),
                RuleResult::NotMatched => "not matched".to_owned(),
                RuleResult::Errored(message) => format!("could not be evaluated: {message}"),
            };
            writeln!(f, "  {}: {result}\n      when {}", rule.rule, rule.when)?;
        }
        write!(f, "{} by {}: {}", self.verdict, self.rule, self.text)?;
        if let Some(approval) = &self.approval {
            let time = humantime::format_duration(Duration::from_secs(approval.expires_after));
            let people = approval.require.iter().map(|required| match required.count {
                1 => required.group.clone(),
                count => format!("{count} of {}", required.group),
            });
            write!(f, "\n  approval by {} within {time}", people.collect::<Vec<_>>().join(" and "))?;
        }
        if let Some(reason) = &self.reason {
            write!(f, "\n  reason: {reason}")?;
        }
        if let Some(score) = &self.score {
            write!(f, "\n  score {}", score.value)?;
            if let Some(error) = &score.error {
                write!(f, ", as it could not be evaluated: {error}")?;
            }
        }
        let rate = self.audit.scored(self.score.as_ref().map(|score| score.value));
        write!(f, "\n  audited at {} % by {}", rate * 100.0, self.audit.group)
    }
}
