use serde_json::json;

use super::*;

const LIMIT: usize = 1_000;

fn decode(body: &Value) -> Message {
    Message::decode(body.to_string().as_bytes(), LIMIT)
}

fn proposal() -> Value {
    json!({
        "specversion": "1.0", "id": "1", "source": "/agents/a", "type": kind::PROPOSED,
        "data": {"tool": "t", "arguments": {}, "agent": {"id": "a"}},
    })
}

fn cancellation() -> Value {
    json!({
        "specversion": "1.0", "id": "2", "source": "/agents/a", "type": kind::CANCELLED,
        "time": "2026-01-01T00:00:00Z", "data": {"action": {"id": "1"}},
    })
}

#[test]
fn a_proposal_and_a_cancellation_are_distinguished_by_type() {
    assert!(matches!(decode(&proposal()), Message::Proposal(proposal) if proposal.reference.id == "1"));
    assert!(
        matches!(decode(&cancellation()), Message::Cancellation(Ok(event)) if event.data.action.id == "1")
    );
}

#[test]
fn an_unreadable_cancellation_is_never_answered_as_a_proposal() {
    let mut empty = cancellation();
    empty["data"] = json!({});
    assert!(matches!(decode(&empty), Message::Cancellation(Err((Code::InvalidCancellation, _)))));
    let twice = cancellation().to_string().replace(r#""id":"1""#, r#""id":"1","id":"3""#);
    let message = Message::decode(twice.as_bytes(), LIMIT);
    assert!(matches!(message, Message::Cancellation(Err((Code::DuplicateKey, _)))));
}

#[test]
fn a_refused_proposal_keeps_the_reference_by_which_it_is_answered() {
    let mut large = proposal();
    large["data"]["reason"] = "x".repeat(LIMIT).into();
    let Message::Refused(refusal) = decode(&large) else { panic!("an oversized proposal was accepted") };
    assert_eq!((refusal.code, refusal.reference.is_some()), (Code::MessageTooLarge, true));
    let twice = proposal().to_string().replace(r#""tool":"t""#, r#""tool":"t","tool":"u""#);
    let Message::Refused(refusal) = Message::decode(twice.as_bytes(), LIMIT) else {
        panic!("a repeated key was accepted")
    };
    assert_eq!((refusal.code, refusal.reference.is_some()), (Code::DuplicateKey, true));
    let mut foreign = proposal();
    foreign["type"] = "another".into();
    let Message::Refused(refusal) = decode(&foreign) else { panic!("an unknown type was accepted") };
    assert_eq!((refusal.code, refusal.reference), (Code::UnknownType, None));
}
