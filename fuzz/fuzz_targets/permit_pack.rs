//! Packs of permits: only the exact bytes that the router's key signed are accepted.
#![no_main]

use countersign_core::{
    message::CloudEvent,
    permit::{PACK_MAX, Permit, PermitPack},
};
use countersign_fuzz::key;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    let (signer, keys) = (key(), [key().verifying_key()]);
    // No input, including the seeds, is signed with the key.
    if let Ok(event) = serde_json::from_slice::<CloudEvent<PermitPack>>(data) {
        assert!(event.data.open(&keys).is_err());
        // The same permits, signed: the pack is accepted if and only if each permit is valid.
        let permits = event.data.permits;
        let (count, all) = (permits.len(), permits.iter().all(|raw| parses(raw)));
        let pack = PermitPack::sign(permits, &signer);
        let wire = serde_json::to_vec(&pack).expect("it can be serialized");
        let pack: PermitPack = serde_json::from_slice(&wire).expect("it can be parsed");
        assert_eq!(pack.open(&keys).is_ok(), all && (1..=PACK_MAX).contains(&count));
    }
    if let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(data) {
        parses(&raw);
    }
});

fn parses(raw: &RawValue) -> bool {
    let Ok(permit) = serde_json::from_str::<Permit>(raw.get()) else { return false };
    let written = serde_json::to_string(&permit).expect("it can be serialized");
    assert_eq!(serde_json::from_str::<Permit>(&written).expect("it can be parsed"), permit);
    true
}
