//! Digests and ids: each has exactly one text form.
#![no_main]

use countersign_core::{
    digest::{tagged, untagged},
    ids::ActionId,
};
use countersign_fuzz::text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(text) = text(data) else { return };
    if let Some(digest) = untagged(text) {
        assert_eq!(tagged(&digest), text);
    }
    if let Ok(id) = text.parse::<ActionId>() {
        assert_eq!(id.to_string().parse::<ActionId>(), Ok(id));
    }
});
