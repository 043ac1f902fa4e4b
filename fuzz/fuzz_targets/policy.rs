//! `policy.yaml`: refused with problems, or evaluated without panics.
#![no_main]

use countersign_fuzz::{configuration, evaluate, sources, text};
use countersign_policy::Sources;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(policy) = text(data) else { return };
    if let Some(configuration) = configuration(&Sources { policy: policy.into(), ..sources() }) {
        assert_eq!(configuration.policy.text(), policy);
        evaluate(&configuration);
    }
});
