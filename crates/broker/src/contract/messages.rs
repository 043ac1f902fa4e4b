//! The messages of the contract, with JSON Schemas generated from the types that travel.

use countersign_core::{
    message::{
        ApprovalAnswer, ApprovalRequest, AuditRequest, CONTENT_TYPE, CancelData, CloudEvent, Command,
        FeedbackData, OutcomeData, ProposalData, SettledPack, kind,
    },
    permit::PermitPack,
    refusal::{Code, Subject},
    signed::{FindingStatement, SignedStatement, Statement},
};
use countersign_ledger::event::EVENT_TYPE;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::publisher::BATCH_CONTENT_TYPE;

/// The messages by name, and the schemas that they refer to.
pub(super) fn all() -> (Map<String, Value>, Map<String, Value>) {
    // The dialect of AsyncAPI's own schemas.
    let settings =
        SchemaSettings::draft07().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut all = Messages { schemas: SchemaGenerator::new(settings), messages: Map::new() };
    all.actions();
    all.approvals();
    all.audits();
    all.evidence();
    all.internal();
    all.schemas.subschema_for::<Statement>();
    all.schemas.subschema_for::<FindingStatement>();
    (all.messages, all.schemas.take_definitions(true))
}

struct Messages {
    schemas: SchemaGenerator,
    messages: Map<String, Value>,
}

impl Messages {
    fn event<T: JsonSchema>(&mut self, name: &str, kind: &str, refused: &[Subject], summary: &str) {
        let event = self.schemas.subschema_for::<CloudEvent<T>>();
        let mut message = json!({
            "name": kind, "title": kind, "summary": summary, "contentType": CONTENT_TYPE,
            "payload": {"allOf": [event, {"properties": {"type": {"const": kind}}}]},
        });
        if !refused.is_empty() {
            message["x-refusals"] = codes(refused);
        }
        self.messages.insert(name.into(), message);
    }
}

impl Messages {
    /// What agents send and receive.
    fn actions(&mut self) {
        self.event::<ProposalData>(
            "actionProposed",
            kind::PROPOSED,
            &[Subject::Proposal, Subject::Message],
            "An agent proposes an action. A repeated `source` and `id` is answered from the stored outcome.",
        );
        self.event::<CancelData>(
            "actionCancelled",
            kind::CANCELLED,
            &[Subject::Cancellation, Subject::Message],
            "An agent withdraws an action: even before its proposal arrives, and until it is claimed.",
        );
        self.event::<OutcomeData>(
            "actionOutcome",
            kind::OUTCOME,
            &[],
            "How an action ended. After `in_doubt` a second outcome follows. `error.code` is a code of `x-refusals` for a \
             proposal or an execution, one of `x-code-patterns`, or one of `x-chosen-codes`.",
        );
    }

    /// What reviewers receive and send.
    fn approvals(&mut self) {
        self.event::<ApprovalRequest>(
            "approvalRequested",
            kind::APPROVAL_REQUESTED,
            &[],
            "A group of reviewers is asked for a decision. Open requests are published again periodically.",
        );
        self.event::<SignedStatement>(
            "approvalDecided",
            kind::APPROVAL_DECIDED,
            &[Subject::Decision, Subject::Message],
            "A reviewer has decided. `jws` is a compact JWS (RFC 7515) with EdDSA: the header has `typ` \
             countersign-decision+jwt and, as `kid`, the key's JWK thumbprint (RFC 7638); the payload is a Statement. For \
             each digest in it, base64url(SHA-256(disclosure)), the disclosure, base64url(JSON [salt, value]), travels \
             beside it, as in RFC 9901.",
        );
        self.event::<ApprovalAnswer>(
            "approvalAnswered",
            kind::APPROVAL_ANSWERED,
            &[],
            "The result of one decision.",
        );
    }

    /// What auditors receive and send, and the feedback that follows.
    fn audits(&mut self) {
        self.event::<AuditRequest>(
            "auditRequested",
            kind::AUDIT_REQUESTED,
            &[],
            "A group of auditors is asked for a finding.",
        );
        self.event::<SignedStatement>(
            "auditFinding",
            kind::AUDIT_FINDING,
            &[Subject::Finding, Subject::Message],
            "An auditor has made a finding, signed like a decision: the header has `typ` countersign-finding+jwt, the \
             payload is a FindingStatement.",
        );
        self.event::<FeedbackData>(
            "feedback",
            kind::FEEDBACK,
            &[],
            "Feedback on an action: a rejection, an edit or a correction.",
        );
    }

    /// Messages between Countersign's own processes.
    fn internal(&mut self) {
        self.event::<PermitPack>(
            "permitPack",
            kind::PERMIT_PACK,
            &[Subject::Permit],
            "Permits under one signature over their RFC 6962 Merkle root.",
        );
        self.event::<SettledPack>(
            "settledPack",
            kind::SETTLED_PACK,
            &[Subject::Settled],
            "Actions that have ended and whose outcomes have been published to their agents.",
        );
        self.event::<Command>(
            "command",
            kind::COMMAND,
            &[Subject::Command],
            "Asks a worker to check whether a transition is due. Carries no authority.",
        );
        self.messages.insert(
            "quarantined".into(),
            json!({
                "title": "Any message", "summary": "As it was published.", "payload": {},
                "x-refusals": codes(&[Subject::Message]),
            }),
        );
    }

    /// Ledger entries travel in batches, and no single type describes them.
    fn evidence(&mut self) {
        let event = json!({
            "type": "object",
            "required": ["specversion", "id", "source", "type", "time", "sequence", "data"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {"type": "string", "format": "uuid"},
                "source": {"const": "/countersign/recorder"},
                "type": {"const": EVENT_TYPE},
                "time": {"type": "string", "format": "date-time"},
                "sequence": {"type": "string", "description": "The entry's index in the ledger, padded with zeros."},
                "data": {
                    "type": "object",
                    "description": "The entry. SHA-256(0x00 ‖ its RFC 8785 form) is the leaf of the ledger's tree.",
                    "required": ["id", "type", "schema", "occurred_at", "recorded_at", "system", "evidence"],
                },
            },
        });
        let message = json!({
            "name": EVENT_TYPE, "title": EVENT_TYPE, "contentType": BATCH_CONTENT_TYPE,
            "summary": "Entries of the ledger, delivered at least once; first occurrences are in order and without gaps. A \
                        batch may be empty.",
            "payload": {"type": "array", "items": event},
        });
        self.messages.insert("evidenceRecorded".into(), message);
    }
}

/// The codes that apply to one of these.
fn codes(subjects: &[Subject]) -> Value {
    let of = |code: &&Code| code.of().iter().any(|subject| subjects.contains(subject));
    Code::ALL.iter().filter(of).map(|code| json!(code)).collect()
}
