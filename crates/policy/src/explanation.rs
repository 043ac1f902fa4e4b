//! A evaluation and the way to it, for the people who write policies.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::audit_file::AuditSpec;
use super::policy::RuleError;
use countersign_core::approval::ApprovalSpec;
use countersign_core::verdict::Verdict;

/// What became of a rule's condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Looked {
    /// It holds: this rule decides.
    Matched,
    /// It does not hold.
    NotMatched,
    /// It could not be evaluated.
    Errored(String),
}

/// One rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The rule's id.
    pub rule: String,
    /// Its condition.
    pub when: String,
    /// What became of it.
    pub looked: Looked,
}

/// A evaluation and the way to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The policy's version.
    pub policy_version: String,
    /// The digest of the policy's text.
    pub policy_digest: String,
    /// The rules looked at, in order; the last of them may have decided.
    pub looks: Vec<Look>,
    /// The verdict.
    pub verdict: Verdict,
    /// The id of the rule that decided, `default` or `on-error`.
    pub rule: String,
    /// The rule's description, or its condition.
    pub text: String,
    /// Why an action is denied.
    pub reason: Option<String>,
    /// Who approves.
    pub approval: Option<ApprovalSpec>,
    /// How often such actions are audited once executed.
    pub audit: AuditSpec,
    /// The rule that could not be evaluated.
    pub errored: Option<RuleError>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy {} ({})", self.policy_version, self.policy_digest)?;
        for look in &self.looks {
            let looked = match &look.looked {
                Looked::Matched => "matched".to_owned(),
                Looked::NotMatched => "not matched".to_owned(),
                Looked::Errored(message) => format!("could not be evaluated: {message}"),
            };
            writeln!(f, "  {}: {looked}\n      when {}", look.rule, look.when)?;
        }
        write!(f, "{} by {}: {}", self.verdict, self.rule, self.text)?;
        if let Some(approval) = &self.approval {
            let time = humantime::format_duration(Duration::from_secs(approval.expires_after));
            let people = approval.require.iter().map(|one| match one.count {
                1 => one.group.clone(),
                count => format!("{count} of {}", one.group),
            });
            write!(f, "\n  approval by {} within {time}", people.collect::<Vec<_>>().join(" and "))?;
        }
        if let Some(reason) = &self.reason {
            write!(f, "\n  reason: {reason}")?;
        }
        write!(f, "\n  audited at {} % by {}", self.audit.rate * 100.0, self.audit.group)
    }
}
