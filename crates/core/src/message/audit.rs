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
}

/// `countersign.audit.requested.v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AuditRequest {
    /// Name it in the finding.
    pub audit: AuditId,
    /// What was executed.
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
}

impl Finding {
    /// The word used in the database, in messages and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Finding::Correct => "correct",
            Finding::Wrong => "wrong",
        }
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

/// `countersign.audit.finding.v1`. Who found it is the message's validated author, never a field.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FindingData {
    /// The audit.
    pub audit: AuditId,
    /// What was found.
    pub finding: Finding,
    /// Why; mandatory for `wrong`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the call should have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Value>,
    /// What really happened; mandatory where the action is in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}
