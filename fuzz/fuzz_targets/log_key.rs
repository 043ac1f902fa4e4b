//! The text form of a log's public key.
#![no_main]

use countersign_fuzz::text;
use countersign_ledger::note::LogKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(text) = text(data) else { return };
    if let Ok(key) = LogKey::parse(text) {
        assert_eq!(key.to_string(), text.trim());
        assert_eq!(LogKey::parse(&key.to_string()), Ok(key));
    }
});
