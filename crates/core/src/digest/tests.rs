use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::json::parse_strict;

fn target() -> Target {
    Target { tool: "t".into(), version: "v".into(), endpoint: "POST http://t".into() }
}

/// The content bound by a digest, for arguments as an agent wrote them; `None` if strict parsing refuses them.
fn bound(arguments: &str) -> Option<Vec<u8>> {
    let arguments = parse_strict(arguments.as_bytes()).ok()?;
    Some(content(&json!({"id": "a"}), &arguments, &target()).unwrap())
}

#[test]
fn the_same_content_under_another_salt_has_another_digest() {
    assert_ne!(salted(&[0; 16], b"x"), salted(&[1; 16], b"x"));
    assert_eq!(tagged(&salted(&[0; 16], b"x")).len(), 7 + 64);
}

#[test]
fn a_digest_has_one_text() {
    let text = tagged(&[0xa0; 32]);
    assert_eq!(untagged(&text), Some([0xa0; 32]));
    for other in [
        text.to_uppercase(),
        text.replace("a0", "A0"),
        text.replace("sha256:a0", "sha256:+a"),
        text.replace("sha256:a0", "sha256: a"),
        text[..70].to_owned(),
        format!("{text}0"),
        format!("{text} "),
        text.replace("sha256", "sha512"),
    ] {
        assert_eq!(untagged(&other), None, "{other:?}");
    }
}

#[test]
fn no_trick_with_numbers_or_keys_gives_two_payloads_one_digest() {
    let mut seen: BTreeMap<Vec<u8>, &str> = BTreeMap::new();
    for arguments in [
        r#"{}"#,
        r#"{"a":null}"#,
        r#"{"a":0}"#,
        r#"{"a":"0"}"#,
        r#"{"a":false}"#,
        r#"{"a":[]}"#,
        r#"{"a":{}}"#,
        r#"{"a":1}"#,
        r#"{"a":-1}"#,
        r#"{"a":0.1}"#,
        r#"{"a":"0.10"}"#,
        r#"{"a":0.2}"#,
        r#"{"a":1e-9}"#,
        r#"{"a":9007199254740991}"#,
        r#"{"a":-9007199254740991}"#,
        r#"{"a":9007199254740990}"#,
        r#"{"a":"9007199254740993"}"#,
        r#"{"a":"9007199254740992"}"#,
        r#"{"A":1}"#,
        r#"{"a ":1}"#,
        r#"{"a\u0000":1}"#,
        r#"{"\u00e9":1}"#,
        r#"{"e\u0301":1}"#,
        r#"{"\ufb01":1}"#,
        r#"{"fi":1}"#,
        r#"{"\ud83d\ude00":1}"#,
        r#"{"\\ud83d\\ude00":1}"#,
        r#"{"a":{"b":1}}"#,
        r#"{"a.b":1}"#,
        r#"{"a":{"b":1,"c":2}}"#,
        r#"{"a":{"b":1},"c":2}"#,
        r#"{"a":[1,2]}"#,
        r#"{"a":[2,1]}"#,
        r#"{"a":[[1],2]}"#,
        r#"{"a":[[1,2]]}"#,
        r#"{"a":"[1,2]"}"#,
        r#"{"a":"1\",\"b\":\"2"}"#,
        r#"{"a":"1","b":"2"}"#,
        r#"{"agent":{"id":"b"}}"#,
        r#"{"tool":"u"}"#,
    ] {
        if let Some(other) = seen.insert(bound(arguments).expect(arguments), arguments) {
            panic!("{arguments} and {other} have one digest");
        }
    }
}

#[test]
fn payloads_that_would_share_a_digest_are_refused_or_equal() {
    for refused in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"a":{"b":1,"b":1}}"#,
        r#"{"a":9007199254740992}"#,
        r#"{"a":9007199254740993}"#,
        r#"{"a":9007199254740993.0}"#,
        r#"{"a":9.007199254740993e15}"#,
        r#"{"a":-9007199254740992}"#,
        r#"{"a":18446744073709551617}"#,
        r#"{"a":1e22}"#,
        r#"{"a":1e999}"#,
        r#"{"a":{"$serde_json::private::RawValue":"{\"b\":1}"}}"#,
        r#"{"a":"\ud800"}"#,
    ] {
        assert_eq!(bound(refused), None, "{refused}");
    }
    // Spellings of one value. Policy, people and tools all receive the canonical one.
    for spellings in [
        &[r#"{"a":1,"b":2}"#, r#"{ "b" : 2 , "\u0061" : 1.0 }"#, r#"{"b":20e-1,"a":0.1e1}"#][..],
        &[r#"{"a":0}"#, r#"{"a":-0}"#, r#"{"a":-0.0}"#, r#"{"a":0e9}"#, r#"{"a":1e-400}"#],
        &[r#"{"a":0.1}"#, r#"{"a":0.10000000000000000555}"#, r#"{"a":1e-1}"#],
        &[r#"{"a":"\u00e9/"}"#, r#"{"a":"é\/"}"#],
    ] {
        let read: Vec<Value> = spellings.iter().map(|text| parse_strict(text.as_bytes()).unwrap()).collect();
        for (value, text) in read.iter().zip(spellings) {
            assert_eq!(value, &read[0], "{text}: the policy would see another value");
            assert_eq!(bound(text), bound(spellings[0]), "{text}");
        }
    }
}

#[test]
fn each_part_of_what_is_approved_is_bound() {
    let of = |agent: Value, arguments: Value, target: &Target| content(&agent, &arguments, target).unwrap();
    let (agent, arguments) = (json!({"id": "a"}), json!({"x": 1}));
    let base = of(agent.clone(), arguments.clone(), &target());
    for other in [
        of(json!({"id": "b"}), arguments.clone(), &target()),
        of(json!({"id": "a", "version": "2"}), arguments.clone(), &target()),
        of(agent.clone(), json!({"x": 2}), &target()),
        of(agent.clone(), arguments.clone(), &Target { tool: "u".into(), ..target() }),
        of(agent.clone(), arguments.clone(), &Target { version: "w".into(), ..target() }),
        of(agent.clone(), arguments.clone(), &Target { endpoint: "POST http://u".into(), ..target() }),
        // Moved from one part to another.
        of(json!({"id": "a", "x": 1}), json!({}), &target()),
    ] {
        assert_ne!(base, other);
    }
}
