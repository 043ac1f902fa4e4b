//! What auditors are asked and find.

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
    /// The coin chose it.
    Sampled,
    /// Its execution is in doubt: the finding must say what really happened.
    InDoubt,
    /// Its class went back to approval, and the last of it are looked at again.
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

/// How the action can be undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Offer {
    /// The tool that undoes it.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
    /// Until when.
    pub reversible_until: DateTime<Utc>,
}

/// `countersign.audit.requested.v1`. What is judged is the action; where nothing was executed, that it was refused.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AuditRequest {
    /// Name it in the finding.
    pub audit: AuditId,
    /// What was executed, or refused.
    pub action: ActionView,
    /// Its digest.
    pub digest: String,
    /// The rule that let it through.
    pub rule: String,
    /// Why it is audited.
    pub reason: AuditReason,
    /// How it ended.
    pub outcome: Outcome,
    /// What the tool answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub result: Option<Box<RawValue>>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The codes of what can be wrong; any where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reason_codes: Vec<String>,
    /// How it can be undone: ask for it with `compensate`. Absent where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<Offer>,
    /// Who may judge it.
    pub group: String,
    /// When the audit was opened.
    pub opened_at: DateTime<Utc>,
}

/// What an auditor can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The action was right.
    Correct,
    /// It was not.
    Wrong,
    /// The auditor cannot tell: another is asked.
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
            .ok_or_else(|| format!("{text:?} is no finding"))
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
    /// Must not happen: a second auditor confirms it.
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
            .ok_or_else(|| format!("{text:?} is no severity"))
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

/// One finding, as it is said before it is signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindingData {
    /// The audit.
    pub audit: AuditId,
    /// The digest that the auditor saw.
    pub digest: String,
    /// What was found.
    pub finding: Finding,
    /// How bad it is; mandatory for `wrong`, and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Why, for programs: one of the request's `reason_codes`; mandatory for `wrong` where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// Why, for people; mandatory for `wrong` where there are no codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the call should have been: `tool`, `arguments` or both; `tool` null where nothing should have been called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Value>,
    /// What really happened; mandatory where the action is in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Whether the offered compensation is asked for.
    #[serde(default)]
    pub compensate: bool,
}

impl FindingData {
    /// A finding and nothing else.
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
