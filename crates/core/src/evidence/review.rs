//! Evidence of reviewers' decisions and auditors' findings.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    action::State,
    ids::{ApprovalId, AuditId},
    message::{Decision, Finding, Resolution, Severity},
    refusal::Code,
};

/// Who sent a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewSender {
    /// A reviewer, by pseudonym.
    Reviewer(String),
    /// An app that reviewers use, by its id.
    App(String),
}

/// Who signed a decision or finding, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// The signer, by pseudonym.
    pub by: String,
    /// Key and statement.
    pub signed: SignedWith,
    /// The digest under which the statement holds a correction; `null` where it has none.
    pub correction_digest: Option<String>,
}

/// The key and the statement that it signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignedWith {
    /// The key's thumbprint.
    pub kid: String,
    /// The statement's id, unique for the key.
    pub jti: String,
    /// When it was signed, as stated.
    pub at: DateTime<Utc>,
    /// `sha256:…` of the statement.
    pub digest: String,
}

/// What is known of a decision, whether it counts or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionNoted {
    /// The id of the event that brought it.
    pub event: String,
    /// The approval request that it names.
    pub approval: ApprovalId,
    /// The decision.
    pub decision: Decision,
    /// The digest of what the reviewer saw.
    pub digest_shown: String,
    /// Who sent it.
    pub sender: ReviewSender,
    /// Who signed it, where that was authenticated.
    #[serde(flatten)]
    pub signature: Option<Signature>,
    /// When the request was opened, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<DateTime<Utc>>,
    /// The signer's groups that may decide the request, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Where the action stands after it; `null` where there is none.
    pub state: Option<State>,
}

/// A decision that counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecorded {
    /// The decision.
    #[serde(flatten)]
    pub noted: DecisionNoted,
    /// The reviewer's reason, for programs.
    pub reason_code: Option<String>,
    /// The digest of the edited content, where an edit is its editor's approval as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approves: Option<String>,
}

/// A decision that does not count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRefused {
    /// The decision.
    #[serde(flatten)]
    pub noted: DecisionNoted,
    /// Why.
    pub code: Code,
}

/// What is known of a finding, whether it counts or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingNoted {
    /// The id of the event that brought it.
    pub event: String,
    /// The audit that it names.
    pub audit: AuditId,
    /// The finding.
    pub finding: Finding,
    /// How bad the error is.
    pub severity: Option<Severity>,
    /// The digest of what the auditor saw.
    pub digest_shown: String,
    /// Who sent it, by pseudonym.
    pub sender: String,
    /// Who signed it, where that was authenticated.
    #[serde(flatten)]
    pub signature: Option<Signature>,
    /// The group that may judge the audit, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// When the audit was opened, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<DateTime<Utc>>,
}

/// A finding that counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingRecorded {
    /// The finding.
    #[serde(flatten)]
    pub noted: FindingNoted,
    /// The auditor's reason, for programs.
    pub reason_code: Option<String>,
    /// What an action in doubt did.
    pub resolution: Option<Resolution>,
    /// Whether the auditor requests that the action be undone.
    pub compensate: bool,
}

/// A finding that does not count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingRefused {
    /// The finding.
    #[serde(flatten)]
    pub noted: FindingNoted,
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub message: String,
}

/// What holds of an audited action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditSettled {
    /// The audit.
    pub audit: AuditId,
    /// `correct` or `wrong`.
    pub finding: Finding,
    /// How bad the error is.
    pub severity: Option<Severity>,
    /// How many findings it rests on.
    pub findings: usize,
}
