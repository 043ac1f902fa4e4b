//! Responses of tools: only an explicit success succeeds, and only an explicit failure means that nothing was done.
#![no_main]

use countersign_core::attempt::{Attempt, is_inconclusive};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn survives_storage(attempt: &Attempt) {
    if let Attempt::Succeeded(result) = attempt {
        let written = serde_json::to_vec(result).expect("a result can be serialized");
        let again: Value = serde_json::from_slice(&written).expect("a serialized result can be parsed");
        assert_eq!(&again, result);
    }
}

fuzz_target!(|data: &[u8]| {
    if let [high, low, body @ ..] = data {
        let status = u16::from_be_bytes([*high, *low]) % 1_000;
        let attempt = Attempt::of_http(status, "Status", body, &[503].into());
        survives_storage(&attempt);
        match attempt {
            Attempt::Succeeded(_) => assert_eq!(status / 100, 2),
            Attempt::NotSent { .. } => assert!([421, 425, 429, 503].contains(&status)),
            Attempt::Unknown { .. } => assert!(is_inconclusive(status)),
            Attempt::Failed { message, .. } => {
                assert_eq!(status / 100, 4);
                assert!(message.chars().count() < 600, "a long response is truncated");
            }
        }
    }
    let attempt = Attempt::of_amqp(data);
    survives_storage(&attempt);
    let has_status = |status: &str| {
        // serde_json refuses its reserved keys in a document only.
        let reply: Result<Value, _> = serde_json::from_slice(data);
        reply.map_or(true, |reply| reply["status"] == status || reply[0] == status)
    };
    match attempt {
        Attempt::Succeeded(_) => assert!(has_status("succeeded")),
        Attempt::Failed { .. } => assert!(has_status("failed")),
        Attempt::Unknown { .. } => {}
        Attempt::NotSent { .. } => panic!("the tool has responded"),
    }
});
