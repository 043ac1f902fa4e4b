//! Proofs that one checkpoint continues another.
#![no_main]

use countersign_fuzz::key;
use countersign_ledger::{
    continuity::Continuity,
    note::{Checkpoint, LogKey},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mut proof) = serde_json::from_slice::<Continuity>(data) else { return };
    let written = serde_json::to_vec(&proof).expect("a proof can be serialized");
    assert_eq!(serde_json::from_slice::<Continuity>(&written).expect("a serialized proof can be parsed"), proof);
    let Ok(ours) = LogKey::new("log", key().verifying_key()) else { return };
    assert!(proof.check(&ours).is_err(), "our log has signed no checkpoint");
    // Two unrelated checkpoints that our log signed.
    let sign = |size, root| Checkpoint { origin: "log".into(), size, root }.sign(&key()).expect("the origin is valid");
    (proof.old, proof.new) = (sign(5, [1; 32]), sign(9, [2; 32]));
    assert!(proof.check(&ours).is_err());
});
