//! A row of evidence as an entry of the ledger: canonical and of bounded length. The first line of the input is the
//! kind, the rest the body.
#![no_main]

use countersign_core::{
    ids::{ActionId, ActionRef},
    json::{canonical, parse_strict},
};
use countersign_fuzz::{NOW, text};
use countersign_ledger::{
    ENTRY_MAX,
    entry::{ActionFacts, Context, Row, entry},
    event::cloud_event,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use uuid::Uuid;

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = text(data).and_then(|text| text.split_once('\n')) else { return };
    // Workers write only values that ingress has accepted, and nest them far less deep than it allows.
    if kind.len() > 64 || parse_strict(format!("[[{body}]]").as_bytes()).is_err() {
        return;
    }
    let facts = ActionFacts {
        id: ActionId(Uuid::from_u128(1)),
        reference: ActionRef { source: "/agents/one".into(), id: "1".into() },
        agent: "one".into(),
        tool: "t".into(),
        traceparent: Some(kind.into()),
        compensates: None,
    };
    let row = Row { event: Uuid::from_u128(2), kind, body, occurred_at: NOW };
    for action in [None, Some(&facts)] {
        let context =
            Context { recorded_at: NOW, system: "s", purpose: "", action, governing: None, previous: None };
        let Ok(bytes) = entry(&row, &context) else { continue };
        assert!(bytes.len() <= ENTRY_MAX);
        let value = parse_strict(&bytes).expect("an entry is strict JSON");
        assert_eq!(canonical(&value).expect("an entry has a canonical form"), bytes);
        let event = cloud_event(7, &bytes).expect("an entry has an event");
        let event: Value = serde_json::from_slice(&event).expect("an event is JSON");
        assert_eq!(event["data"], value);
    }
});
