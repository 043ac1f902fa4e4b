//! The entries of every kind of evidence, byte for byte.

use chrono::DateTime;
use uuid::Uuid;

use super::super::entry::{ActionFacts, Context, Governing, Row, entry};
use countersign_core::ids::{ActionId, ActionRef};

/// Three lines each: kind and body, the entry about an action, the entry about no action.
const GOLDEN: &str = include_str!("golden.txt");

fn entries(kind: &str, body: &str) -> [String; 2] {
    let occurred_at = DateTime::from_timestamp(1_700_000_000, 123_456_000).unwrap();
    let facts = ActionFacts {
        id: ActionId(Uuid::from_u128(1)),
        reference: ActionRef { source: "/agents/a".into(), id: "a-1".into() },
        agent: "a".into(),
        tool: "t".into(),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        compensates: Some(ActionId(Uuid::from_u128(2))),
    };
    let governing =
        Governing { policy_digest: "sha256:00".into(), risk: Some("low".into()), reversible: Some(true) };
    [Some(&facts), None].map(|action| {
        let context = Context {
            recorded_at: occurred_at,
            system: "s",
            purpose: "p",
            action,
            governing: action.filter(|_| body.contains("\"verdict\"")).map(|_| &governing),
            previous: action.map(|_| Uuid::from_u128(3)),
        };
        let row = Row { event: Uuid::from_u128(4), kind, body, occurred_at };
        String::from_utf8(entry(&row, &context).unwrap()).unwrap()
    })
}

#[test]
fn golden_entries_are_unchanged() {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    let mut now = String::new();
    for written in lines.chunks(3).map(|three| three[0]) {
        let (kind, body) = written.split_once(' ').unwrap();
        let [about_action, global] = entries(kind, body);
        now += &format!("{written}\n{about_action}\n{global}\n");
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/golden.txt"), &now).unwrap();
    }
    for (expected, actual) in lines.iter().zip(now.lines()) {
        assert_eq!(*expected, actual);
    }
    assert_eq!(lines.len(), now.lines().count());
}
