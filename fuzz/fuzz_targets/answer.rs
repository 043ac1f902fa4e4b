//! What tools answer: only a yes is a success, and only a no says that nothing was done.
#![no_main]

use countersign_core::attempt::Attempt;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn kept(attempt: &Attempt) {
    if let Attempt::Succeeded(result) = attempt {
        let written = serde_json::to_vec(result).expect("it can be stored");
        let again: Value = serde_json::from_slice(&written).expect("and read");
        assert_eq!(&again, result);
    }
}

fuzz_target!(|data: &[u8]| {
    if let [high, low, body @ ..] = data {
        let status = u16::from_be_bytes([*high, *low]) % 1_000;
        let attempt = Attempt::of_http(status, "Status", body);
        kept(&attempt);
        match attempt {
            Attempt::Succeeded(_) => assert_eq!(status / 100, 2),
            Attempt::NotSent { .. } => assert_eq!(status, 429),
            Attempt::Unknown { .. } => assert_eq!(status / 100, 5),
            Attempt::Failed { message, .. } => {
                assert!(![2, 5].contains(&(status / 100)));
                assert!(message.chars().count() < 600, "a long answer is cut");
            }
        }
    }
    let attempt = Attempt::of_amqp(data);
    kept(&attempt);
    let said = |status: &str| {
        // What serde_json keeps for itself is refused in a document, and only there.
        let reply: Result<Value, _> = serde_json::from_slice(data);
        reply.map_or(true, |reply| reply["status"] == status || reply[0] == status)
    };
    match attempt {
        Attempt::Succeeded(_) => assert!(said("succeeded")),
        Attempt::Failed { .. } => assert!(said("failed")),
        Attempt::Unknown { .. } => {}
        Attempt::NotSent { .. } => panic!("it has answered"),
    }
});
