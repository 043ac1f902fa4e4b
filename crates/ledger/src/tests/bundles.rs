//! A bundle is valid as it was made, and in no other form.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::DateTime;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    super::{
        LedgerError,
        bundle::{Answer, Bundle, Content, FORMAT, Proven, SignedBy},
        entry::{ActionFacts, Context, Governing, Row, entry},
        note::{Checkpoint, LogKey},
    },
    Log,
};
use countersign_core::{
    digest::{hex, salted, tagged},
    ids::{ActionId, ActionRef, ApprovalId},
    json::canonical,
    keyed::{commitment, draw},
    message::{Decision, DecisionData},
    signed::{Signer, statement_digest, thumbprint},
};

const ORIGIN: &str = "log.example/x";
const POLICY: &str = "version: '3'\nrules: []\n";

fn log_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn verifier() -> LogKey {
    LogKey::new(ORIGIN, log_key().verifying_key()).unwrap()
}

/// A ledger with one action among many other entries.
struct TestLedger {
    log: Log,
    facts: ActionFacts,
    previous: Option<Uuid>,
    about: Vec<u64>,
    epochs: Vec<u64>,
}

impl TestLedger {
    fn others(&mut self, count: usize) {
        for n in 0..count {
            self.log.push(format!("another entry {n}").into_bytes());
        }
    }

    fn record(&mut self, of_action: bool, kind: &str, body: Value) {
        let index = self.log.frontier.size();
        let occurred_at = DateTime::from_timestamp(1_700_000_000 + index as i64, 0).unwrap();
        let body = body.to_string();
        let event = Uuid::from_u128(u128::from(index) + 1);
        let row = Row { event, kind, body: &body, occurred_at };
        let governing = Governing { policy_digest: tagged(&Sha256::digest(POLICY)), ..Governing::default() };
        let context = Context {
            recorded_at: occurred_at,
            system: "s",
            purpose: "",
            action: of_action.then_some(&self.facts),
            governing: (kind == "action.evaluated").then_some(&governing),
            previous: self.previous.filter(|_| of_action),
        };
        self.log.push(entry(&row, &context).unwrap());
        match of_action {
            true => (self.previous, _) = (Some(event), self.about.push(index)),
            false => self.epochs.push(index),
        }
        self.others(3);
    }

    fn proven(&self, indexes: &[u64]) -> Vec<Proven> {
        let one = |index: &u64| {
            Proven::new(*index, &self.log.entries[*index as usize], &self.log.inclusion(*index)).unwrap()
        };
        indexes.iter().map(one).collect()
    }
}

/// The bundle of an action that was approved, executed and drawn for sampling.
fn bundle() -> Bundle {
    let reference = ActionRef { source: "/agents/a".into(), id: "a-1".into() };
    let id = ActionId(Uuid::from_u128(77));
    let facts = ActionFacts {
        id,
        reference: reference.clone(),
        agent: "a".into(),
        tool: "t".into(),
        traceparent: None,
        compensates: None,
    };
    let mut ledger = TestLedger { log: Log::of(250), facts, previous: None, about: vec![], epochs: vec![] };
    let content = json!({"tool": "t", "arguments": {"amount": "500"}});
    let salt = [5; 16];
    let digest = tagged(&salted(&salt, &canonical(&content).unwrap()));
    let evaluated = |state: &str| json!({"state": state, "verdict": "require_approval", "rule": "r", "policy_version": "3", "generation": 1, "digest": digest});
    let approval = ApprovalId(Uuid::from_u128(99));
    let reviewer = SigningKey::from_bytes(&[9; 32]);
    let decision = DecisionData {
        approval,
        digest: digest.clone(),
        decision: Decision::Approve,
        reason_code: None,
        reason: Some("she asked for it".into()),
        arguments: None,
    };
    let now = DateTime::from_timestamp(1_700_000_300, 0).unwrap();
    let signed =
        Signer::new("sam", reviewer.clone()).sign(&[decision], Uuid::from_u128(3), now, || [1; 16]).unwrap();
    let (key, pi) = ([4; 32], 0.25);
    let drawn = draw(&key, &reference.source, &reference.id, pi);
    ledger.record(true, "action.evaluated", evaluated("pending_approval"));
    ledger.record(true, "decision.recorded", json!({"approval": approval, "decision": "approve", "digest_shown": digest, "by": "p-1",
        "signed": {"kid": thumbprint(&reviewer.verifying_key()), "digest": statement_digest(&signed.jws)}, "state": "authorised"}));
    ledger.record(true, "action.evaluated", evaluated("authorised"));
    ledger.record(false, "epoch.opened", json!({"epoch": 5, "commitment": tagged(&commitment(&key))}));
    ledger.record(true, "action.completed", json!({"state": "succeeded", "fence": 1, "result_digest": tagged(&salted(&salt, b"{\"done\":true}"))}));
    ledger.record(
        true,
        "action.sampled",
        json!({"epoch": 5, "pi": pi, "r": drawn.r.to_string(), "selected": drawn.selected}),
    );
    ledger.record(false, "epoch.closed", json!({"epoch": 5, "key": hex(&key)}));
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: ledger.log.frontier.size(),
        root: ledger.log.frontier.root(),
    };
    Bundle {
        format: FORMAT.into(),
        action: id,
        checkpoint: checkpoint.sign(&log_key()).unwrap(),
        count: ledger.about.len(),
        entries: ledger.proven(&ledger.about),
        epochs: ledger.proven(&ledger.epochs),
        policies: vec![POLICY.into()],
        contents: vec![Content { salt: STANDARD.encode(salt), content }],
        results: vec![Answer { salt: STANDARD.encode(salt), text: r#"{"done":true}"#.into() }],
        statements: vec![SignedBy {
            jws: signed.jws,
            disclosures: signed.disclosures,
            key: URL_SAFE_NO_PAD.encode(reviewer.verifying_key().as_bytes()),
        }],
        erased: vec![],
    }
}

#[test]
fn a_bundle_proves_its_decision_its_outcome_and_its_draw() {
    let bytes = serde_json::to_vec(&bundle()).unwrap();
    let checked = Bundle::read(&bytes).unwrap().check(&verifier()).unwrap();
    assert_eq!(
        (checked.state.as_str(), checked.signatures, checked.sampling.as_str()),
        ("succeeded", 1, "proved")
    );
    assert_eq!(checked.entries.len(), 5);
}

#[test]
fn the_error_names_the_part_that_is_missing_from_a_bundle() {
    let whole = bundle();
    let part = |bundle: &Bundle| match bundle.check(&verifier()) {
        Err(LedgerError::Bundle { part, .. }) => part,
        other => panic!("{other:?}"),
    };
    for at in 1..whole.entries.len() {
        let mut less = whole.clone();
        less.entries.remove(at);
        less.count -= 1;
        if at < whole.entries.len() - 1 {
            assert_eq!(part(&less), format!("entry {}", whole.entries[at + 1].index));
        }
    }
    assert_eq!(
        part(&Bundle { policies: vec![], ..whole.clone() }),
        format!("entry {}", whole.entries[0].index)
    );
    assert_eq!(
        part(&Bundle { contents: vec![], ..whole.clone() }),
        format!("entry {}", whole.entries[0].index)
    );
    assert_eq!(
        part(&Bundle { results: vec![], ..whole.clone() }),
        format!("entry {}", whole.entries[3].index)
    );
    assert_eq!(
        part(&Bundle { statements: vec![], ..whole.clone() }),
        format!("entry {}", whole.entries[1].index)
    );
    assert_eq!(
        part(&Bundle { epochs: vec![], ..whole.clone() }),
        format!("entry {}", whole.entries[4].index)
    );
    let mut undisclosed = whole.clone();
    undisclosed.statements[0].disclosures.clear();
    assert!(part(&undisclosed).starts_with("the statement sha256:"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_bundle_with_any_bit_flipped_is_invalid(at in any::<usize>(), bit in 0..8_u8) {
        thread_local!(static WHOLE: Bundle = bundle());
        let whole = WHOLE.with(Clone::clone);
        let mut bytes = serde_json::to_vec(&whole).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        match Bundle::read(&bytes) {
            // The same bundle in another spelling is valid.
            Ok(read) if read == whole => {}
            Ok(read) => prop_assert!(read.check(&verifier()).is_err(), "byte {} of {}", at, String::from_utf8_lossy(&bytes)),
            Err(_) => {}
        }
    }

    #[test]
    fn a_bundle_cut_short_or_with_bytes_swapped_is_invalid(one in any::<usize>(), other in any::<usize>(), cut in any::<bool>()) {
        thread_local!(static WHOLE: Bundle = bundle());
        let whole = WHOLE.with(Clone::clone);
        let mut bytes = serde_json::to_vec(&whole).unwrap();
        let (one, other) = (one % bytes.len(), other % bytes.len());
        if cut { bytes.truncate(one) } else { bytes.swap(one, other) }
        match Bundle::read(&bytes) {
            Ok(read) if read == whole => {}
            Ok(read) => prop_assert!(read.check(&verifier()).is_err(), "{} and {}", one, other),
            Err(_) => {}
        }
    }

    #[test]
    fn the_error_names_an_entry_with_a_bit_flipped(which in any::<usize>(), at in any::<usize>(), bit in 0..8_u8) {
        thread_local!(static WHOLE: Bundle = bundle());
        let whole = WHOLE.with(Clone::clone);
        let which = which % whole.entries.len();
        let entry = &whole.entries[which];
        let text = serde_json::to_vec(entry).unwrap();
        let mut bytes = serde_json::to_vec(&whole).unwrap();
        let from = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[from + at % text.len()] ^= 1 << bit;
        match Bundle::read(&bytes) {
            Ok(read) if read == whole => {}
            // It claims to be another entry.
            Ok(read) if read.entries[which].index != entry.index => prop_assert!(read.check(&verifier()).is_err()),
            Ok(read) => match read.check(&verifier()) {
                Err(LedgerError::NotIncluded { index, .. }) => prop_assert_eq!(index, entry.index),
                Err(LedgerError::Bundle { part, .. }) => prop_assert_eq!(part, format!("entry {}", entry.index)),
                other => prop_assert!(false, "{other:?}"),
            },
            Err(LedgerError::Bundle { part, .. }) => prop_assert_eq!(part, "the bundle cannot be read"),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn the_error_names_a_checkpoint_with_a_bit_flipped(at in any::<usize>(), bit in 0..7_u8) {
        thread_local!(static WHOLE: Bundle = bundle());
        let mut wrong = WHOLE.with(Clone::clone);
        let mut note = wrong.checkpoint.clone().into_bytes();
        let at = at % note.len();
        note[at] ^= 1 << bit;
        // Invalid text cannot be a note.
        let Ok(note) = String::from_utf8(note) else { return Ok(()) };
        wrong.checkpoint = note;
        let found = wrong.check(&verifier());
        let named = matches!(&found, Err(LedgerError::Note(_) | LedgerError::Unsigned(_) | LedgerError::Forged(_)));
        prop_assert!(named, "byte {}: {:?}", at, found);
    }
}
