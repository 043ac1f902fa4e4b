//! Strict JSON: the canonical form of accepted input is a fixed point, and serde_json parses it as the same value.
#![no_main]

use countersign_core::json::{canonical, envelope_ids, parse_strict};
use countersign_fuzz::canonical_of;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let ids = envelope_ids(data);
    let Ok(value) = parse_strict(data) else { return };
    let bytes = canonical_of(&value);
    let lenient: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(lenient, value, "serde_json parses another value");
    assert_eq!(canonical(&lenient).expect("canonical"), bytes);
    let own = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    assert_eq!(ids, own("source").zip(own("id")));
});
