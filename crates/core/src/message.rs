//! The messages: CloudEvents 1.0 in structured JSON mode, and the data of each type.

mod action;
mod approval;
mod audit;
mod feedback;
mod inner;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

pub use crate::approval::Decision;
pub use action::{CancelData, ContextItem, NamedAction, OutcomeData, ProposalData, ProposingAgent, Timings};
pub use approval::{ApprovalAnswer, ApprovalRequest, DecisionData, DecisionResult, Why};
pub use audit::{AuditReason, AuditRequest, Finding, FindingData, Offer, Resolution, Severity};
pub use feedback::{Call, FeedbackData, FeedbackKind};
pub use inner::{Command, SettledPack};

/// The content type of every message.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Event types. A new major version is a new type; an unlisted type is quarantined.
pub mod kind {
    /// An agent proposes an action.
    pub const PROPOSED: &str = "countersign.action.proposed.v1";
    /// An agent withdraws an action.
    pub const CANCELLED: &str = "countersign.action.cancelled.v1";
    /// How an action ended.
    pub const OUTCOME: &str = "countersign.action.outcome.v1";
    /// Reviewers are asked for a decision.
    pub const APPROVAL_REQUESTED: &str = "countersign.approval.requested.v1";
    /// A reviewer decided.
    pub const APPROVAL_DECIDED: &str = "countersign.approval.decided.v1";
    /// The answer to a decision.
    pub const APPROVAL_ANSWERED: &str = "countersign.approval.answered.v1";
    /// Auditors are asked for a finding.
    pub const AUDIT_REQUESTED: &str = "countersign.audit.requested.v1";
    /// An auditor submits a finding.
    pub const AUDIT_FINDING: &str = "countersign.audit.finding.v1";
    /// What a reviewer or auditor changed or found wrong.
    pub const FEEDBACK: &str = "countersign.feedback.v1";
    /// Permits, from the router to executors.
    pub const PERMIT_PACK: &str = "countersign.permit.pack.v1";
    /// Actions that have ended, from executors to the sampler.
    pub const SETTLED_PACK: &str = "countersign.settled.pack.v1";
    /// A request from a sweep to the worker that owns the transition.
    pub const COMMAND: &str = "countersign.command.v1";
}

/// A CloudEvents envelope. Unknown members are ignored here and kept in the stored bytes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Event")]
pub struct CloudEvent<T> {
    /// `1.0`.
    pub specversion: String,
    /// Unique per source; also the AMQP `message_id`.
    pub id: String,
    /// The sender: `/agents/<id>`, `/reviewers/<id>`, `/countersign/<role>`.
    pub source: String,
    /// One of [`kind`].
    #[serde(rename = "type")]
    pub kind: String,
    /// When the event occurred, as the sender states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<DateTime<Utc>>,
    /// `application/json`.
    #[serde(default = "json", skip_serializing_if = "String::is_empty")]
    pub datacontenttype: String,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The data of this type of event.
    pub data: T,
}

fn json() -> String {
    "application/json".into()
}

impl<T> CloudEvent<T> {
    /// An event of `kind` from `source`.
    pub fn new(id: Uuid, source: &str, kind: &str, time: DateTime<Utc>, data: T) -> Self {
        Self {
            specversion: "1.0".into(),
            id: id.to_string(),
            source: source.into(),
            kind: kind.into(),
            time: Some(time),
            datacontenttype: json(),
            traceparent: None,
            data,
        }
    }
}

/// Why an action did not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// For programs: a code of this contract, or one chosen by a rule or a tool.
    pub code: String,
    /// For people.
    pub message: String,
    /// When the agent may propose it again, under a new id: with `rate_limited`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<DateTime<Utc>>,
}

impl Failure {
    /// A failure that the agent is not told to retry.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retry_at: None }
    }
}

/// An action as reviewers and auditors see it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActionView {
    /// The proposal's `source`.
    pub source: String,
    /// The proposal's `id`.
    pub id: String,
    /// The tool to call.
    pub tool: String,
    /// Its arguments, in canonical form.
    #[schemars(with = "Value")]
    pub arguments: Box<RawValue>,
    /// The agent, in canonical form: `id`, `version`, `model`, `on_behalf_of`.
    #[schemars(with = "Value")]
    pub agent: Box<RawValue>,
    /// The reason that the agent gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The task it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Value>,
    /// The sources it is based on: URIs and digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
    /// The agent's earlier action that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<Value>,
    /// The action that it compensates, at an auditor's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensates: Option<Value>,
}
