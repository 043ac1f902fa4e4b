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
    let written = serde_json::to_vec(&proof).expect("it can be written");
    assert_eq!(serde_json::from_slice::<Continuity>(&written).expect("and read"), proof);
    let Ok(ours) = LogKey::new("log", key().verifying_key()) else { return };
    assert!(proof.check(&ours).is_err(), "our log has signed nothing");
    // Two checkpoints of ours that have nothing to do with one another.
    let sign = |size, root| Checkpoint { origin: "log".into(), size, root }.sign(&key()).expect("a name");
    (proof.old, proof.new) = (sign(5, [1; 32]), sign(9, [2; 32]));
    assert!(proof.check(&ours).is_err());
});
