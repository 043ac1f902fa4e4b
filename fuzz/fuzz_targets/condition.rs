//! One condition of a policy: refused, or evaluated in bounded time for anything that an agent may send.
#![no_main]

use countersign_fuzz::{configuration, evaluate, sources, text};
use countersign_policy::Sources;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let Some(condition) = text(data) else { return };
    let before = sources();
    let policy = before.policy.replace("'tool.name == \"t\"'", &json!(condition).to_string());
    assert_ne!(policy, before.policy);
    if let Some(configuration) = configuration(&Sources { policy, ..before }) {
        evaluate(&configuration);
    }
});
