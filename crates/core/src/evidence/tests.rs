//! Every kind with the body that is written for it, byte for byte: the ledger holds its digest.

use std::collections::BTreeSet;

use super::{Event, Kind};

/// One kind and body per line.
const GOLDEN: &str = include_str!("golden.txt");

fn golden() -> impl Iterator<Item = (Kind, &'static str)> {
    GOLDEN.lines().map(|line| {
        let (kind, body) = line.split_once(' ').unwrap();
        (kind.parse().unwrap(), body)
    })
}

#[test]
fn every_kind_is_written_as_its_golden_body() {
    for (kind, body) in golden() {
        let event = Event::decode(kind, body).unwrap_or_else(|error| panic!("{kind} {body}: {error}"));
        assert_eq!(event.kind(), kind);
        assert_eq!(event.body().to_string(), body, "{kind}");
    }
}

#[test]
fn every_kind_has_a_golden_body_and_a_unique_word() {
    let known: BTreeSet<&str> = golden().map(|(kind, _)| kind.as_str()).collect();
    let all: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!((&known, all.len()), (&all, Kind::ALL.len()));
}

#[test]
fn a_kind_reads_as_what_happened_to_what() {
    for kind in Kind::ALL {
        let word = kind.as_str();
        let (subject, event) = word.split_once('.').unwrap();
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
        assert!(plain(subject) && plain(event), "{word}");
        assert_eq!(word.parse(), Ok(*kind));
    }
    assert!("action.unheard_of".parse::<Kind>().is_err());
}

#[test]
fn a_body_that_lacks_a_member_is_not_decoded() {
    assert!(Event::decode(Kind::ActionClaimed, r#"{"state":"executing"}"#).is_err());
}
