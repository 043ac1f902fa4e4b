use serde_json::json;

use super::*;

const LIMIT: usize = 4096;

fn event(data: Value) -> Value {
    json!({"specversion": "1.0", "id": "a-1", "source": "/agents/a", "type": kind::PROPOSED, "data": data})
}

fn data() -> Value {
    json!({"tool": "t", "arguments": {"x": 1}, "agent": {"id": "a", "version": "1"}})
}

fn refusal(body: &[u8]) -> (&'static str, bool) {
    let refusal = decode(body, LIMIT).unwrap_err();
    (refusal.code.as_str(), refusal.reference.is_some())
}

#[test]
fn a_decoded_proposal_has_everything_that_policy_may_read() {
    let proposal = decode(event(data()).to_string().as_bytes(), LIMIT).unwrap();
    assert_eq!(proposal.reference.to_string(), "/agents/a#a-1");
    assert_eq!(proposal.action["source"], "/agents/a");
    assert_eq!(proposal.action["arguments"]["x"], 1);
    assert_eq!(proposal.agent_id, "a");
}

#[test]
fn a_message_without_ids_is_not_answered() {
    assert_eq!(refusal(b"not json"), ("not_json", false));
    assert_eq!(refusal(b"[]"), ("invalid_envelope", false));
    let mut foreign = event(data());
    foreign["type"] = "countersign.action.proposed.v2".into();
    assert_eq!(refusal(foreign.to_string().as_bytes()), ("unknown_type", false));
    let mut control = event(data());
    control["id"] = "a\u{0}".into();
    assert_eq!(refusal(control.to_string().as_bytes()), ("invalid_envelope", false));
}

#[test]
fn a_message_with_ids_is_answered() {
    for (broken, code) in [
        (json!({"arguments": {}, "agent": {"id": "a"}}), "invalid_proposal"),
        (json!({"tool": "t", "arguments": [], "agent": {"id": "a"}}), "invalid_proposal"),
        (json!({"tool": "t", "arguments": {}, "agent": {}}), "invalid_proposal"),
        (
            json!({"tool": "t", "arguments": {"x": 9_007_199_254_740_993_i64}, "agent": {"id": "a"}}),
            "integer_out_of_range",
        ),
        (
            json!({"tool": "t", "arguments": {}, "agent": {"id": "a"}, "expires_at": "soon"}),
            "invalid_proposal",
        ),
    ] {
        assert_eq!(refusal(event(broken).to_string().as_bytes()), (code, true));
    }
}

#[test]
fn duplicate_keys_deep_nesting_and_size_are_answered_too() {
    let twice =
        r#"{"specversion":"1.0","id":"a","source":"/agents/a","type":"t","data":{"tool":"x","tool":"y"}}"#;
    assert_eq!(refusal(twice.as_bytes()), ("duplicate_key", true));
    let deep =
        format!(r#"{{"id":"a","source":"/agents/a","data":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    assert_eq!(refusal(deep.as_bytes()), ("nested_too_deeply", true));
    let mut large = event(data());
    large["data"]["reason"] = "x".repeat(LIMIT).into();
    assert_eq!(refusal(large.to_string().as_bytes()), ("message_too_large", true));
}
