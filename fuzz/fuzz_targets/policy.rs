//! `policy.yaml`.
#![no_main]

use countersign_fuzz::{configuration, judge, sources, text};
use countersign_policy::Sources;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(policy) = text(data) else { return };
    if let Some(configuration) = configuration(&Sources { policy: policy.into(), ..sources() }) {
        assert_eq!(configuration.policy.text(), policy);
        judge(&configuration);
    }
});
