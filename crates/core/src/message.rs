//! The messages: CloudEvents 1.0 in structured JSON mode, and what each carries.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use crate::{
    action::Outcome,
    approval::Requirement,
    config::Verdict,
    ids::{ActionId, ActionRef, ApprovalId, AuditId},
};

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
    /// An auditor is asked.
    pub const AUDIT_REQUESTED: &str = "countersign.audit.requested.v1";
    /// An auditor found.
    pub const AUDIT_FINDING: &str = "countersign.audit.finding.v1";
    /// Router to executor.
    pub const PERMIT_PACK: &str = "countersign.permit.pack.v1";
    /// Executor to sampler.
    pub const SETTLED_PACK: &str = "countersign.settled.pack.v1";
    /// A sweep to the worker that owns the transition.
    pub const COMMAND: &str = "countersign.command.v1";
}

/// A CloudEvents envelope. Unknown members are ignored here and kept in the stored bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// `countersign.action.cancelled.v1`: the agent no longer wants what it proposed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CancelData {
    /// Which.
    pub action: CancelledAction,
}

/// The proposal that is withdrawn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CancelledAction {
    /// Its `source`; the event's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its `id`.
    pub id: String,
}

/// Why an action did not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// When things happened, by the database's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutcomeData {
    /// The proposal's `source` and `id`.
    pub action: ActionRef,
    /// How it ended.
    pub outcome: Outcome,
    /// What the tool answered, where it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

/// What a reviewer or auditor is shown of an action.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActionView {
    /// The proposal's `source`.
    pub source: String,
    /// The proposal's `id`.
    pub id: String,
    /// The tool to be called.
    pub tool: String,
    /// Its arguments, in canonical form.
    pub arguments: Box<RawValue>,
    /// Who acts, in canonical form: id, version, model, on whose behalf.
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
}

/// Why a human is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Why {
    /// The rule's id.
    pub rule: String,
    /// Its description, or its condition.
    pub text: String,
    /// The policy's version.
    pub policy_version: String,
}

/// `countersign.approval.requested.v1`.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// `countersign.approval.decided.v1`. Who decides is the message's validated author, never a field.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// Why an action is audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditReason {
    /// The coin chose it.
    Sampled,
    /// Its execution is in doubt: the finding must say what really happened.
    InDoubt,
}

/// `countersign.audit.requested.v1`.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The tool did it.
    Succeeded,
    /// The tool did not do it.
    Failed,
}

/// `countersign.audit.finding.v1`. Who found it is the message's validated author, never a field.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// `countersign.settled.pack.v1`: executed actions whose outcomes have been confirmed to their agents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettledPack {
    /// Up to 64.
    pub actions: Vec<ActionId>,
}

/// `countersign.command.v1`: asks the owner of a transition to look again. Carries no authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// To the router: judge the action again, or expire it if its time is up.
    Judge {
        /// Which.
        action: ActionId,
    },
    /// To the router: publish an open approval request again.
    RequestApproval {
        /// Whose.
        action: ActionId,
    },
    /// To the router: take in a quarantined message again.
    Replay {
        /// Row of the quarantine table.
        quarantine: i64,
    },
    /// To the executor: the claim's lease ran out.
    Recover {
        /// Which.
        action: ActionId,
    },
    /// To the executor: the interrupted call may not be made again.
    Abandon {
        /// Which.
        action: ActionId,
    },
    /// To the executor: tell agent and sampler the stored outcome again.
    Answer {
        /// Which.
        action: ActionId,
    },
    /// To the sampler: publish an open audit again.
    RequestAudit {
        /// Which.
        audit: AuditId,
    },
}
