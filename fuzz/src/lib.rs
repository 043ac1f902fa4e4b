//! What the fuzz targets share.

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

/// A key that signs nothing but what a target signs with it.
pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

/// The fixed time of every evaluation and signature.
pub const NOW: DateTime<Utc> = DateTime::from_timestamp(1_790_000_000, 0).unwrap();

/// The bytes as UTF-8, if they are valid.
pub fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A small valid configuration. Each target replaces one of its parts.
pub fn sources() -> Sources {
    Sources {
        policy: include_str!("../seeds/policy/small.yaml").into(),
        tools: include_str!("../seeds/tools/small.yaml").into(),
        directory: include_str!("../seeds/directory/small.yaml").into(),
    }
}

/// Parses a configuration. Asserts that every problem has a message and a help text, and that parsing is deterministic.
pub fn configuration(sources: &Sources) -> Option<Configuration> {
    let again = Configuration::parse(sources);
    match Configuration::parse(sources) {
        Ok(configuration) => {
            let again = again.expect("parsing is deterministic");
            assert_eq!(configuration.policy.digest(), again.policy.digest());
            Some(configuration)
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                assert!(!problem.message.is_empty() && !problem.help.is_empty(), "{problem:?}");
            }
            assert_eq!(again.expect_err("parsing is deterministic"), problems);
            None
        }
    }
}

/// Evaluates an action of each tool. Asserts that a rule that cannot be evaluated never allows the action.
pub fn evaluate(configuration: &Configuration) {
    let agent = json!({"id": "one", "version": "1", "model": "m", "on_behalf_of": "customer:mia"});
    for arguments in [json!({}), json!({"amount": "500", "n": 7, "list": [1, "a", {"b": null}], "text": "é"})]
    {
        for tool in configuration.tools.iter() {
            let action = json!({
                "source": "/agents/one", "id": "1", "tool": tool.name(), "arguments": arguments, "reason": "r",
            });
            let facts = Facts { action: &action, agent: &agent, tool, now: NOW };
            let evaluation = configuration.policy.evaluate(&facts);
            if evaluation.errored.is_some() {
                assert_ne!(evaluation.verdict, Verdict::Allow, "{evaluation:?}");
            }
            assert_eq!(configuration.policy.evaluate(&facts), evaluation);
            assert!(configuration.policy.rule_ids().any(|rule| rule == evaluation.rule), "{evaluation:?}");
            let explained = configuration.policy.explain(&facts);
            assert_eq!((explained.verdict, explained.rule.as_str()), (evaluation.verdict, evaluation.rule));
        }
    }
}

/// Parses an event as ingress does. Asserts that its data survives serialization.
pub fn event<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<CloudEvent<T>> {
    let value = parse_strict(bytes).ok()?;
    let event: CloudEvent<T> = serde_json::from_value(value).ok()?;
    let written = serde_json::to_vec(&event).expect("an event can be serialized");
    let again: CloudEvent<T> = serde_json::from_slice(&written).expect("a serialized event can be parsed");
    let data = |event: &CloudEvent<T>| serde_json::to_vec(&event.data).expect("data can be serialized");
    assert_eq!(data(&again), data(&event));
    assert_eq!((&again.id, &again.source, &again.kind), (&event.id, &event.source, &event.kind));
    assert_eq!((again.time, &again.traceparent), (event.time, &event.traceparent));
    Some(event)
}

/// The canonical form. Asserts that parsing it yields the same value.
pub fn canonical_of(value: &Value) -> Vec<u8> {
    let bytes = canonical(value).expect("a strictly parsed value has a canonical form");
    assert_eq!(&parse_strict(&bytes).expect("a canonical form can be parsed"), value);
    bytes
}
