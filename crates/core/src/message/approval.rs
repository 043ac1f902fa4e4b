//! Approval requests, decisions and the answers to them.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ActionView;
use crate::{
    action::State,
    approval::{Decision, Requirement},
    ids::ApprovalId,
    refusal::Code,
};

/// Why an approval is required.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// The rule's id.
    pub rule: String,
    /// Its description, or its condition.
    pub text: String,
    /// The policy's version.
    pub policy_version: String,
}

/// `countersign.approval.requested.v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalRequest {
    /// The id of the request, to be named in the decision.
    pub approval: ApprovalId,
    /// The action to be approved.
    pub action: ActionView,
    /// The action's digest, to be named in the decision, which applies to exactly this content.
    pub digest: String,
    /// Why an approval is required.
    pub why: Why,
    /// What happens on `approve`.
    pub on_approve: String,
    /// What happens on `reject`.
    pub on_reject: String,
    /// Who may decide now.
    pub groups: Vec<String>,
    /// How many people of which groups must approve; each person counts once.
    pub require: Vec<Requirement>,
    /// How many people must approve in total.
    pub quorum: u32,
    /// Who has approved it so far.
    pub approvers: Vec<String>,
    /// The allowed decisions.
    pub allowed_decisions: Vec<Decision>,
    /// The codes from which a rejection must choose its `reason_code`. If empty, a `reason` is enough.
    pub reason_codes: Vec<String>,
    /// When the request was opened.
    pub opened_at: DateTime<Utc>,
    /// When the request expires, by the database's clock.
    pub expires_at: DateTime<Utc>,
}

/// One decision, with the values disclosed beside the signature.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DecisionData {
    /// The approval request.
    pub approval: ApprovalId,
    /// The digest that the reviewer saw.
    pub digest: String,
    /// The decision.
    pub decision: Decision,
    /// Why, for programs: one of the request's `reason_codes`; required for `reject` if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// Why, for people: required for `reject` if there are no codes. For `respond`, the message to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For `edit`: the arguments that replace the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
}

/// The result of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionResult {
    /// It counts.
    Recorded,
    /// It had already been recorded: the same person made the same decision on the same content.
    Repeated,
    /// It does not count; `code` says why.
    Refused,
}

/// `countersign.approval.answered.v1`: the result of a decision, sent to its sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalAnswer {
    /// The id of the decision's event, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The request; absent if the message was too malformed to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// The decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Its result.
    pub result: DecisionResult,
    /// Why it was refused, for programs: a code of this contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it was refused, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The state of the action afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

impl ApprovalAnswer {
    /// The answer to a decision that counts.
    pub fn counted(result: DecisionResult) -> Self {
        Self { event: None, approval: None, decision: None, result, code: None, message: None, state: None }
    }

    /// The answer to a decision that does not count.
    pub fn refused(code: Code, message: String) -> Self {
        let answer = Self::counted(DecisionResult::Refused);
        Self { code: Some(code.into()), message: Some(message), ..answer }
    }
}
