//! What agents say and are told.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::Failure;
use crate::{action::Outcome, ids::ActionRef, verdict::Verdict};

/// `countersign.action.proposed.v1`. Members that are not listed are kept, and policy sees them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProposalData {
    /// The tool to be called, as the registry names it.
    pub tool: String,
    /// Its arguments. Money, and integers beyond 2^53, as strings.
    pub arguments: Map<String, Value>,
    /// Who acts.
    pub agent: ProposingAgent,
    /// Why: the reviewers read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The task that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Value>,
    /// What it rests on: conversations, documents, data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Vec<ContextItem>>,
    /// After this it is not executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// The agent's earlier action in whose place this one comes, as after a `respond`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<NamedAction>,
}

/// Who acts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProposingAgent {
    /// The agent's id in the directory: the author's own.
    pub id: String,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The model behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The person whom it serves, such as `customer:mia`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
}

/// Something that an action rests on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ContextItem {
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// `sha256:` and 64 hexadecimal digits: evidence keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// `countersign.action.cancelled.v1`: the agent no longer wants what it proposed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CancelData {
    /// Which.
    pub action: NamedAction,
}

/// An action as its agent calls it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NamedAction {
    /// Its `source`; the event's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its `id`.
    pub id: String,
}

/// When things happened, by the database's clock.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// The router accepted the proposal.
    pub proposed_at: DateTime<Utc>,
    /// A human decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<DateTime<Utc>>,
    /// The executor claimed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// The outcome was recorded.
    pub ended_at: DateTime<Utc>,
}

/// `countersign.action.outcome.v1`: how an action ended. After `in_doubt` a second one follows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeData {
    /// The proposal's `source` and `id`.
    pub action: ActionRef,
    /// How it ended.
    pub outcome: Outcome,
    /// What the tool answered, where it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub result: Option<Box<RawValue>>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The policy's verdict.
    pub verdict: Verdict,
    /// The rule that gave it.
    pub rule: String,
    /// The policy's version.
    pub policy_version: String,
    /// The reviewers who approved it.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// When things happened.
    pub timings: Timings,
}
