//! What agents send and receive.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::Failure;
use crate::{action::Outcome, ids::ActionRef, verdict::Verdict};

/// `countersign.action.proposed.v1`. Unlisted members are kept and are visible to policy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProposalData {
    /// The tool to call, by its name in the registry.
    pub tool: String,
    /// Its arguments. Send amounts of money, and integers of magnitude 2^53 or more, as strings.
    pub arguments: Map<String, Value>,
    /// The proposing agent.
    pub agent: ProposingAgent,
    /// The reason, which reviewers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The task it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Value>,
    /// What it is based on: conversations, documents, data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Vec<ContextItem>>,
    /// The action is not executed after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// The agent's earlier action that this one replaces, for example after a `respond`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<NamedAction>,
}

/// The proposing agent.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProposingAgent {
    /// The agent's id in the directory; must be the authenticated sender's.
    pub id: String,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The model behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The person it acts for, such as `customer:mia`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
}

/// A source on which an action is based.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ContextItem {
    /// Its location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// `sha256:` and 64 hexadecimal digits; kept as evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// `countersign.action.cancelled.v1`: the agent withdraws an action.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CancelData {
    /// The action to withdraw.
    pub action: NamedAction,
}

/// An action by the names that its agent gave it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NamedAction {
    /// Its `source`; defaults to the event's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its `id`.
    pub id: String,
}

/// When each step happened, by the database's clock.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// When the router accepted the proposal.
    pub proposed_at: DateTime<Utc>,
    /// When a reviewer decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<DateTime<Utc>>,
    /// When an executor claimed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When the outcome was recorded.
    pub ended_at: DateTime<Utc>,
}

/// `countersign.action.outcome.v1`: how an action ended. After `in_doubt` a second one follows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeData {
    /// The proposal's `source` and `id`.
    pub action: ActionRef,
    /// How it ended.
    pub outcome: Outcome,
    /// The tool's result, if it succeeded.
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
    /// When each step happened.
    pub timings: Timings,
}
