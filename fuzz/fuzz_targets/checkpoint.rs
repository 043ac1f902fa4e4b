//! Signed notes of checkpoints.
#![no_main]

use countersign_fuzz::{key, text};
use countersign_ledger::note::{Checkpoint, LogKey, cosigned};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(note) = text(data) else { return };
    let Ok(checkpoint) = Checkpoint::read(note) else { return };
    let Ok(ours) = LogKey::new(&checkpoint.origin, key().verifying_key()) else { return };
    assert!(Checkpoint::open(note, &ours).is_err(), "no input is signed with our key");
    let signed = checkpoint.sign(&key()).expect("the origin is valid");
    assert_eq!(Checkpoint::open(&signed, &ours), Ok(checkpoint.clone()));
    assert_eq!(Checkpoint::read(&signed), Ok(checkpoint.clone()));
    // A signature of another log beside ours does not invalidate ours.
    let line = note.lines().last().unwrap_or_default();
    if let Ok(both) = cosigned(&signed, line) {
        assert_eq!(Checkpoint::open(&both, &ours), Ok(checkpoint));
    }
});
