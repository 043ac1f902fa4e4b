//! The CloudEvents envelope with any data.
#![no_main]

use countersign_fuzz::event;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    event::<Value>(data);
});
