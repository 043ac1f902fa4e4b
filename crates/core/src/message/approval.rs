//! What reviewers are asked, decide and are answered.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ActionView;
use crate::{action::State, approval::Requirement, ids::ApprovalId, refusal::Code};

/// Why a human is asked.
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
    /// Name it in the decision.
    pub approval: ApprovalId,
    /// What is to be approved.
    pub action: ActionView,
    /// Its digest: name it in the decision, which binds to exactly this.
    pub digest: String,
    /// Why it was escalated.
    pub why: Why,
    /// What happens on `approve`.
    pub on_approve: String,
    /// What happens on `reject`.
    pub on_reject: String,
    /// Who may decide now.
    pub groups: Vec<String>,
    /// How many people of which groups must approve; each person counts once.
    pub require: Vec<Requirement>,
    /// How many must approve in all.
    pub quorum: u32,
    /// Who has approved this so far.
    pub approvers: Vec<String>,
    /// What may be decided.
    pub allowed_decisions: Vec<Decision>,
    /// What a rejection must choose its `reason_code` from; where it is empty, a reason is enough.
    pub reason_codes: Vec<String>,
    /// When the request was opened.
    pub opened_at: DateTime<Utc>,
    /// After this it counts as expired, by the database's clock.
    pub expires_at: DateTime<Utc>,
}

/// What a reviewer can decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Execute exactly this.
    Approve,
    /// Do not execute it.
    Reject,
    /// Execute something else: the decision carries changed arguments, which are judged again.
    Edit,
    /// Do not execute it, and send the agent a message: it may propose again.
    Respond,
}

impl Decision {
    /// All of them.
    pub const ALL: [Decision; 4] = [Decision::Approve, Decision::Reject, Decision::Edit, Decision::Respond];

    /// The word used in the database, in messages and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Approve => "approve",
            Decision::Reject => "reject",
            Decision::Edit => "edit",
            Decision::Respond => "respond",
        }
    }
}

/// One decision, with what was disclosed beside the signature (see [`crate::signed`]).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DecisionData {
    /// The request.
    pub approval: ApprovalId,
    /// The digest that the reviewer saw.
    pub digest: String,
    /// What was decided.
    pub decision: Decision,
    /// Why, for programs: one of the request's `reason_codes`; mandatory for `reject` where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// Why, for people: mandatory for `reject` where there are no codes. For `respond` the message to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For `edit`: the arguments to be used in place of the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionResult {
    /// It counts.
    Recorded,
    /// It counted already: the same person decided the same of the same content before.
    Repeated,
    /// It does not count; `code` says why.
    Refused,
}

/// `countersign.approval.answered.v1`: what became of a decision, to whoever sent it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalAnswer {
    /// The id of the event that brought the decision, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The request; absent where the message could not be read so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// What became of it.
    pub result: DecisionResult,
    /// Why it was refused, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it was refused, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the action stands then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

impl ApprovalAnswer {
    /// Of a decision that counts.
    pub fn counted(result: DecisionResult) -> Self {
        Self { event: None, approval: None, decision: None, result, code: None, message: None, state: None }
    }

    /// Of what does not count.
    pub fn refused(code: Code, message: String) -> Self {
        let answer = Self::counted(DecisionResult::Refused);
        Self { code: Some(code.into()), message: Some(message), ..answer }
    }
}
