//! The messages: CloudEvents 1.0 in structured JSON mode, and what each carries.

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

pub use action::{CancelData, ContextItem, NamedAction, OutcomeData, ProposalData, ProposingAgent, Timings};
pub use approval::{ApprovalAnswer, ApprovalRequest, Decision, DecisionData, DecisionResult, Why};
pub use audit::{AuditReason, AuditRequest, Finding, FindingData, Offer, Resolution, Severity};
pub use feedback::{Call, FeedbackData, FeedbackKind};
pub use inner::{Command, SettledPack};

/// The content type of every message.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Event types. A new major version is a new type; one that is not listed here is quarantined.
pub mod kind {
    /// An agent proposes an action.
    pub const PROPOSED: &str = "countersign.action.proposed.v1";
    /// An agent withdraws an action.
    pub const CANCELLED: &str = "countersign.action.cancelled.v1";
    /// How an action ended.
    pub const OUTCOME: &str = "countersign.action.outcome.v1";
    /// A human is asked.
    pub const APPROVAL_REQUESTED: &str = "countersign.approval.requested.v1";
    /// A human decided.
    pub const APPROVAL_DECIDED: &str = "countersign.approval.decided.v1";
    /// What became of a decision.
    pub const APPROVAL_ANSWERED: &str = "countersign.approval.answered.v1";
    /// An auditor is asked.
    pub const AUDIT_REQUESTED: &str = "countersign.audit.requested.v1";
    /// An auditor found.
    pub const AUDIT_FINDING: &str = "countersign.audit.finding.v1";
    /// What a human thought of an action.
    pub const FEEDBACK: &str = "countersign.feedback.v1";
    /// Router to executor.
    pub const PERMIT_PACK: &str = "countersign.permit.pack.v1";
    /// Executor to sampler.
    pub const SETTLED_PACK: &str = "countersign.settled.pack.v1";
    /// A sweep to the worker that owns the transition.
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
    /// Who says so: `/agents/<id>`, `/reviewers/<id>`, `/countersign/<role>`.
    pub source: String,
    /// One of [`kind`].
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<DateTime<Utc>>,
    /// `application/json`.
    #[serde(default = "json", skip_serializing_if = "String::is_empty")]
    pub datacontenttype: String,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What is said.
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
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What a reviewer or auditor is shown of an action.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActionView {
    /// The proposal's `source`.
    pub source: String,
    /// The proposal's `id`.
    pub id: String,
    /// The tool to be called.
    pub tool: String,
    /// Its arguments, in canonical form.
    #[schemars(with = "Value")]
    pub arguments: Box<RawValue>,
    /// Who acts, in canonical form: id, version, model, on whose behalf.
    #[schemars(with = "Value")]
    pub agent: Box<RawValue>,
    /// What the agent gave as its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The task it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Value>,
    /// What it rests on: uris and digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
    /// The agent's earlier action in whose place it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<Value>,
    /// The action that it undoes, at an auditor's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensates: Option<Value>,
}
