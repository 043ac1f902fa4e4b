//! Messages of the audit stream, as its readers split them into events.
#![no_main]

use countersign_ledger::event::{events, texts};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(events) = events(data) else { return };
    let texts = texts(data).expect("events have a text each");
    assert_eq!(events.len(), texts.len());
    for (event, text) in events.iter().zip(texts) {
        assert!(text.get().contains(event.data.get()), "the entry keeps its bytes");
        if let Ok(index) = event.index() {
            assert!(event.sequence.ends_with(&index.to_string()) || event.sequence.is_empty());
        }
        // Parsing the whole event yields the same.
        if let Ok(whole @ Value::Object(_)) = serde_json::from_str(text.get()) {
            assert_eq!(whole["sequence"], event.sequence.as_ref());
        }
    }
});
