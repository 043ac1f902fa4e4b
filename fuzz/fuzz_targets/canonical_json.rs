//! Strict JSON: what is accepted reads as its canonical form, which is a fixed point, and means the same to serde_json.
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
    assert_eq!(lenient, value, "another reader reads something else");
    assert_eq!(canonical(&lenient).expect("canonical"), bytes);
    let own = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    assert_eq!(ids, own("source").zip(own("id")));
});
