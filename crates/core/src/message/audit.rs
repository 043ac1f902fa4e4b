//! Audit requests and findings.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{ActionView, Failure};
use crate::{action::Outcome, ids::AuditId};

/// Why an action is audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditReason {
    /// The sampling draw selected it.
    Sampled,
    /// Its execution is in doubt: the finding must state what really happened.
    InDoubt,
    /// Its stratum went back to approval, and its most recent actions are audited.
    LookBack,
}

impl AuditReason {
    /// The word used in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            AuditReason::Sampled => "sampled",
            AuditReason::InDoubt => "in_doubt",
            AuditReason::LookBack => "look_back",
        }
    }
}

/// A compensation that can be requested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Offer {
    /// The tool that undoes it.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
    /// Until when it can be undone.
    pub reversible_until: DateTime<Utc>,
}

/// `countersign.audit.requested.v1`. The auditor judges the action or, if nothing was executed, its refusal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AuditRequest {
    /// The id of the audit, to be named in the finding.
    pub audit: AuditId,
    /// The action that was executed or refused.
    pub action: ActionView,
    /// The action's digest, to be named in the finding.
    pub digest: String,
    /// The rule that decided on it.
    pub rule: String,
    /// Why it is audited.
    pub reason: AuditReason,
    /// How it ended.
    pub outcome: Outcome,
    /// The tool's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub result: Option<Box<RawValue>>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The codes from which a finding `wrong` must choose its `reason_code`. If empty, any `reason_code`
    /// or a `reason` will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reason_codes: Vec<String>,
    /// How it can be undone, which a finding requests with `compensate`. Absent if it cannot be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<Offer>,
    /// Why it cannot be undone, if it succeeded and its tool has a compensation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cannot_be_undone: Option<String>,
    /// The group whose members may audit it.
    pub group: String,
    /// When the audit was opened.
    pub opened_at: DateTime<Utc>,
}

/// An auditor's finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The action was right.
    Correct,
    /// The action was wrong.
    Wrong,
    /// The auditor cannot tell; another is asked.
    Unsure,
}

impl Finding {
    /// The word used in the database, in messages and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Finding::Correct => "correct",
            Finding::Wrong => "wrong",
            Finding::Unsure => "unsure",
        }
    }
}

impl std::str::FromStr for Finding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Finding::Correct, Finding::Wrong, Finding::Unsure];
        all.into_iter()
            .find(|finding| finding.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a finding"))
    }
}

/// How bad an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Hardly matters.
    Minor,
    /// Matters.
    Major,
    /// Must not happen; a second auditor has to confirm it.
    Critical,
}

impl Severity {
    /// The word used in the database, in messages and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Minor => "minor",
            Severity::Major => "major",
            Severity::Critical => "critical",
        }
    }
}

impl std::str::FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Severity::Minor, Severity::Major, Severity::Critical];
        all.into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a severity"))
    }
}

/// What really happened to an action in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The tool did it.
    Succeeded,
    /// The tool did not do it.
    Failed,
}

/// One finding before it is signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindingData {
    /// The audit.
    pub audit: AuditId,
    /// The digest that the auditor saw.
    pub digest: String,
    /// The finding.
    pub finding: Finding,
    /// How bad it is; required for `wrong`, not allowed otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Why, for programs: one of the request's `reason_codes`; required for `wrong` if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// Why, for people; required for `wrong` if there are no codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the call should have been: `tool`, `arguments` or both. `tool` is null if nothing should have been called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Value>,
    /// What really happened; required if the action is in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Whether the offered compensation is requested.
    #[serde(default)]
    pub compensate: bool,
}

impl FindingData {
    /// A finding without any optional member.
    pub fn new(audit: AuditId, digest: &str, finding: Finding) -> Self {
        Self {
            audit,
            digest: digest.to_owned(),
            finding,
            severity: None,
            reason_code: None,
            reason: None,
            correction: None,
            resolution: None,
            compensate: false,
        }
    }
}
