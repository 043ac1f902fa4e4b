//! The split into train and test, by customer, so that no customer is on both sides.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The side of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Split {
    Train,
    Test,
}

/// The customer of a proposal: the value at `pointer`, a string unchanged and anything else as JSON. Without one, the agent.
pub(super) fn customer(body: &Value, pointer: &str, agent: &str) -> String {
    match body.pointer(pointer) {
        None | Some(Value::Null) => agent.to_owned(),
        Some(Value::String(customer)) => customer.clone(),
        Some(other) => other.to_string(),
    }
}

/// The side of a customer: test where the top 53 bits of SHA-256 lie in the lower `share` of their range. The result
/// is deterministic, and a customer in a small share is also in every larger one.
pub(super) fn split(customer: &str, share: f64) -> Split {
    let digest: [u8; 32] = Sha256::digest(customer.as_bytes()).into();
    let top = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte)) >> 11;
    let place = top as f64 / (1_u64 << 53) as f64;
    if place < share { Split::Test } else { Split::Train }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_customer_stays_on_one_side_and_the_share_is_about_right() {
        let tested = |share: f64| {
            (0..10_000).filter(|n| split(&format!("customer-{n}"), share) == Split::Test).count()
        };
        assert!((1_900..2_100).contains(&tested(0.2)), "{}", tested(0.2));
        assert_eq!((tested(0.0), tested(1.0)), (0, 10_000));
        for n in 0..1_000 {
            let name = format!("customer-{n}");
            assert_eq!(split(&name, 0.3), split(&name, 0.3));
            assert!(split(&name, 0.1) == Split::Train || split(&name, 0.3) == Split::Test);
        }
    }

    #[test]
    fn without_a_customer_the_agent_stands_for_it() {
        let body = json!({"data": {"agent": {"on_behalf_of": "c-7"}, "arguments": {"id": 12, "none": null}}});
        assert_eq!(customer(&body, "/data/agent/on_behalf_of", "bot"), "c-7");
        assert_eq!(customer(&body, "/data/arguments/id", "bot"), "12");
        assert_eq!(customer(&body, "/data/arguments/none", "bot"), "bot");
        assert_eq!(customer(&body, "/data/elsewhere", "bot"), "bot");
    }
}
