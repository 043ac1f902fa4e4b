//! What the targets share.

pub mod signed;

use chrono::{DateTime, Utc};
use countersign_core::{
    json::{canonical, parse_strict},
    message::CloudEvent,
    verdict::Verdict,
};
use countersign_policy::{Configuration, Facts, Sources};
use ed25519_dalek::SigningKey;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A key that has signed nothing but what a target signs with it.
pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

/// A time at which everything happens.
pub const NOW: DateTime<Utc> = DateTime::from_timestamp(1_790_000_000, 0).unwrap();

/// A text, where the bytes are one.
pub fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A small configuration that checks; each of its parts is fuzzed beside the others.
pub fn sources() -> Sources {
    Sources {
        policy: include_str!("../seeds/policy/small.yaml").into(),
        tools: include_str!("../seeds/tools/small.yaml").into(),
        directory: include_str!("../seeds/directory/small.yaml").into(),
    }
}

/// Reads a configuration. What is refused is refused with a place to look at and something to write instead, and the
/// same text always reads the same.
pub fn configuration(sources: &Sources) -> Option<Configuration> {
    let again = Configuration::parse(sources);
    match Configuration::parse(sources) {
        Ok(configuration) => {
            let again = again.expect("the same text reads the same");
            assert_eq!(configuration.policy.digest(), again.policy.digest());
            Some(configuration)
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                assert!(!problem.message.is_empty() && !problem.help.is_empty(), "{problem:?}");
            }
            assert_eq!(again.expect_err("the same text reads the same"), problems);
            None
        }
    }
}

/// Judges an action of each tool. A rule that cannot be evaluated never lets anything through.
pub fn judge(configuration: &Configuration) {
    let agent = json!({"id": "one", "version": "1", "model": "m", "on_behalf_of": "customer:mia"});
    for arguments in [json!({}), json!({"amount": "500", "n": 7, "list": [1, "a", {"b": null}], "text": "é"})]
    {
        for tool in configuration.tools.iter() {
            let action = json!({
                "source": "/agents/one", "id": "1", "tool": tool.name(), "arguments": arguments, "reason": "r",
            });
            let facts = Facts { action: &action, agent: &agent, tool, now: NOW };
            let judgement = configuration.policy.evaluate(&facts);
            if judgement.errored.is_some() {
                assert_ne!(judgement.verdict, Verdict::Allow, "{judgement:?}");
            }
            assert_eq!(configuration.policy.evaluate(&facts), judgement);
            assert!(configuration.policy.rule_ids().any(|rule| rule == judgement.rule), "{judgement:?}");
            let explained = configuration.policy.explain(&facts);
            assert_eq!((explained.verdict, explained.rule.as_str()), (judgement.verdict, judgement.rule));
        }
    }
}

/// An event that is read as ours are at the door. What it says is written and read again as the same.
pub fn event<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<CloudEvent<T>> {
    let value = parse_strict(bytes).ok()?;
    let event: CloudEvent<T> = serde_json::from_value(value).ok()?;
    let written = serde_json::to_vec(&event).expect("what was read can be written");
    let again: CloudEvent<T> = serde_json::from_slice(&written).expect("what was written can be read");
    let said = |event: &CloudEvent<T>| serde_json::to_vec(&event.data).expect("it can be written");
    assert_eq!(said(&again), said(&event));
    assert_eq!((&again.id, &again.source, &again.kind), (&event.id, &event.source, &event.kind));
    assert_eq!((again.time, &again.traceparent), (event.time, &event.traceparent));
    Some(event)
}

/// The canonical form, which is one.
pub fn canonical_of(value: &Value) -> Vec<u8> {
    let bytes = canonical(value).expect("what was read strictly has a canonical form");
    assert_eq!(&parse_strict(&bytes).expect("which can be read"), value);
    bytes
}
