//! The messages of the contract, with JSON Schemas generated from the types that travel.

use crate::publisher::BATCH_CONTENT_TYPE;
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

/// The messages by name, and the schemas that they refer to.
pub(super) fn all() -> (Map<String, Value>, Map<String, Value>) {
    // The dialect of AsyncAPI's own schemas.
    let settings =
        SchemaSettings::draft07().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut all = Messages { schemas: SchemaGenerator::new(settings), messages: Map::new() };
    all.event::<ProposalData>(
        "actionProposed",
        kind::PROPOSED,
        &[Subject::Proposal, Subject::Message],
        "An agent proposes an action. The same source and id again is answered from what is stored.",
    );
    all.event::<CancelData>(
        "actionCancelled",
        kind::CANCELLED,
        &[Subject::Cancellation, Subject::Message],
        "An agent withdraws an action: before its proposal arrives, while it waits, until it is claimed.",
    );
    all.event::<OutcomeData>(
        "actionOutcome",
        kind::OUTCOME,
        &[],
        "How an action ended. After `in_doubt` a second one follows. `error.code` is a refusal, a rule's reason \
         code, or what the tool's connector met.",
    );
    all.event::<ApprovalRequest>(
        "approvalRequested",
        kind::APPROVAL_REQUESTED,
        &[],
        "A human is asked. Open requests are published again from time to time.",
    );
    all.event::<SignedStatement>(
        "approvalDecided",
        kind::APPROVAL_DECIDED,
        &[Subject::Decision, Subject::Message],
        "A reviewer decided. `jws` is a compact JWS (RFC 7515) with EdDSA: the header has `typ` \
         countersign-decision+jwt and as `kid` the key's JWK thumbprint (RFC 7638), the payload is a Statement. Where \
         it has a digest, base64url(SHA-256(disclosure)), the disclosure travels beside it: \
         base64url(JSON [salt, value]), as in RFC 9901.",
    );
    all.event::<ApprovalAnswer>(
        "approvalAnswered",
        kind::APPROVAL_ANSWERED,
        &[],
        "What became of one decision.",
    );
    all.event::<AuditRequest>("auditRequested", kind::AUDIT_REQUESTED, &[], "An auditor is asked.");
    all.event::<SignedStatement>(
        "auditFinding",
        kind::AUDIT_FINDING,
        &[Subject::Finding, Subject::Message],
        "An auditor found, signed as decisions are: the header has `typ` countersign-finding+jwt, the payload is a \
         FindingStatement.",
    );
    all.event::<FeedbackData>(
        "feedback",
        kind::FEEDBACK,
        &[],
        "What a human thought of an action: a rejection, an edit, a correction.",
    );
    all.evidence();
    all.event::<PermitPack>(
        "permitPack",
        kind::PERMIT_PACK,
        &[Subject::Permit],
        "Permits under one signature over their RFC 6962 Merkle root.",
    );
    all.event::<SettledPack>(
        "settledPack",
        kind::SETTLED_PACK,
        &[],
        "Actions that have ended and whose agents have been answered.",
    );
    all.event::<Command>("command", kind::COMMAND, &[Subject::Command], "Look again. Carries no authority.");
    all.messages.insert(
        "quarantined".into(),
        json!({"title": "Any message", "summary": "As it was published.", "payload": {}, "x-refusals": codes(&[Subject::Message])}),
    );
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
    /// Entries travel in batches, and their schema is not that of one type.
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
            "summary": "Entries of the ledger, at least once; first occurrences come in order and without a gap. A batch \
                        may be empty.",
            "payload": {"type": "array", "items": event},
        });
        self.messages.insert("evidenceRecorded".into(), message);
    }
}

/// The codes with which such things are refused.
fn codes(subjects: &[Subject]) -> Value {
    let of = |code: &&Code| code.of().iter().any(|subject| subjects.contains(subject));
    Code::ALL.iter().filter(of).map(|code| json!(code)).collect()
}
