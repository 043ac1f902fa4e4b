//! Bundles of evidence, verified offline.
#![no_main]

use countersign_fuzz::key;
use countersign_ledger::{
    bundle::Bundle,
    note::{Checkpoint, LogKey},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mut bundle) = Bundle::read(data) else { return };
    let written = serde_json::to_vec(&bundle).expect("a bundle can be serialized");
    assert_eq!(Bundle::read(&written), Ok(bundle.clone()));
    let Ok(ours) = LogKey::new("log", key().verifying_key()) else { return };
    assert!(bundle.check(&ours).is_err(), "our log has signed no checkpoint");
    // Even a checkpoint that our log signed does not include entries of another tree.
    let empty = Checkpoint { origin: "log".into(), size: 1 << 20, root: [9; 32] };
    bundle.checkpoint = empty.sign(&key()).expect("the origin is valid");
    assert!(bundle.check(&ours).is_err());
});
