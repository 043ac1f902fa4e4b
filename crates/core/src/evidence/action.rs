//! Evidence about one action, from proposal to result.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::present;
use crate::{
    action::State,
    approval::Requirement,
    digest::Target,
    ids::{ActionId, ApprovalId, AuditId, PermitId},
    refusal::Code,
    verdict::Verdict,
};

/// The evaluation of an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionEvaluated {
    /// Where the action stands after it.
    pub state: State,
    /// The policy's verdict.
    pub verdict: Verdict,
    /// The rule that gave it.
    pub rule: String,
    /// The policy's version.
    pub policy_version: String,
    /// The generation.
    pub generation: i64,
    /// The stratum in whose figures the action counts once it is executed, whether it is drawn or not; absent where none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratum: Option<String>,
    /// Whether the action had been evaluated before; absent the first time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reevaluation: bool,
    /// The state of the stratum's sampling plan, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_state: Option<String>,
    /// `sha256:…` of the salted content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Where the call goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Why it ended without being executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// The rule whose condition failed, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_errored: Option<String>,
    /// Why the rule's score could not be evaluated, so that the action is audited as if nothing were known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_errored: Option<String>,
    /// The limit that the action counts against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitNoted>,
    /// The approval request that was opened; `null` where one was due without a specification.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub approval: Option<Option<OpenedApproval>>,
    /// The permit that was issued; `null` where one was due without content.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub permit: Option<Option<PermitIssued>>,
    /// Who acts; at intake alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<ActingAgent>,
    /// The tool; at intake alone, where the proposal could be decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Digests of what the proposal rests on; at intake alone, where the proposal could be decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Vec<String>>,
}

/// Use of a limit, in decimals as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitNoted {
    /// What the action adds.
    pub amount: String,
    /// The most that the limit allows.
    pub max: String,
}

/// An approval request as it was opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenedApproval {
    /// Its id.
    pub id: ApprovalId,
    /// Whose approval it needs.
    pub require: Vec<Requirement>,
    /// When it lapses.
    pub expires_at: DateTime<Utc>,
}

/// A permit as it was issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PermitIssued {
    /// Its id.
    pub id: PermitId,
    /// When it stops being valid.
    pub expires_at: DateTime<Utc>,
}

/// The agent as its proposal describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActingAgent {
    /// Its id in the directory.
    pub id: String,
    /// Its version.
    pub version: Option<Value>,
    /// Its model.
    pub model: Option<Value>,
    /// The person on whose behalf it acts, by pseudonym.
    pub on_behalf_of: Option<String>,
}

/// Another action that this one supersedes or compensates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionLink {
    /// The other action.
    pub action: ActionId,
}

/// The action that supersedes or compensates this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionLinkedBy {
    /// The other action.
    pub by: ActionId,
}

/// A claim. The statement that claims writes this body itself, so that claim and evidence are one round trip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionClaimed {
    /// Always `executing`.
    pub state: State,
    /// The permit.
    pub permit: PermitId,
    /// The claim's number: results under an older one are late.
    pub fence: i32,
    /// The generation.
    pub generation: i64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionCompleted {
    /// Where the action stands after it.
    pub state: State,
    /// The claim under which it ran.
    pub fence: i32,
    /// How often the tool was called.
    pub attempts: u32,
    /// Why it failed.
    pub error_code: Option<String>,
    /// `sha256:…` of the salted result.
    pub result_digest: Option<String>,
}

/// A result under a claim that no longer holds the action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultLate {
    /// The state that it would have led to.
    pub state: State,
    /// The claim under which it ran.
    pub fence: i32,
    /// How often the tool was called.
    pub attempts: u32,
    /// Why it failed.
    pub error_code: Option<String>,
    /// Where it is kept: `late_results.id`.
    pub late_result: String,
    /// `sha256:…` of the salted result, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_digest: Option<String>,
}

/// What an auditor found out about an action in doubt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionResolved {
    /// `succeeded` or `failed`.
    pub state: State,
}

/// A proposal refused because of an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProposalRefused {
    /// Why.
    pub code: Code,
    /// The quarantined message.
    pub quarantine: i64,
}

/// A cancellation without effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CancellationRefused {
    /// Why.
    pub code: Code,
    /// Where the action stood.
    pub state: State,
}

/// A permit without effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PermitRefused {
    /// Why.
    pub code: Code,
    /// The permit, where its pack could be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<PermitId>,
    /// The quarantined pack, where it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<i64>,
}

/// An escalation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalEscalated {
    /// The request.
    pub approval: ApprovalId,
    /// The group that may decide as well from now on.
    #[serde(rename = "also")]
    pub group: String,
}

/// An auditor's request to undo an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompensationRequested {
    /// The audit.
    pub audit: AuditId,
    /// The tool that undoes it.
    pub tool: String,
    /// Until when it can be undone.
    pub until: DateTime<Utc>,
}
