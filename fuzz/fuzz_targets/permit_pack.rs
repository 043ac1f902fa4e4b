//! Packs of permits: nothing opens but what the router's key has signed, and that byte for byte.
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
    // As it comes off the wire, signed by nobody that we know: the key is made for this and has signed no seed.
    if let Ok(event) = serde_json::from_slice::<CloudEvent<PermitPack>>(data) {
        assert!(event.data.open(&keys).is_err());
        // The same permits, signed: opened exactly if each is one.
        let permits = event.data.permits;
        let (count, all) = (permits.len(), permits.iter().all(|raw| parses(raw)));
        let pack = PermitPack::sign(permits, &signer);
        let wire = serde_json::to_vec(&pack).expect("it can be written");
        let pack: PermitPack = serde_json::from_slice(&wire).expect("and read");
        assert_eq!(pack.open(&keys).is_ok(), all && (1..=PACK_MAX).contains(&count));
    }
    if let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(data) {
        parses(&raw);
    }
});

fn parses(raw: &RawValue) -> bool {
    let Ok(permit) = serde_json::from_str::<Permit>(raw.get()) else { return false };
    let written = serde_json::to_string(&permit).expect("it can be written");
    assert_eq!(serde_json::from_str::<Permit>(&written).expect("and read"), permit);
    true
}
