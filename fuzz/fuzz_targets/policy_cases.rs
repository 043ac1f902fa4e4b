//! `policy_test.yaml`.
#![no_main]

use std::sync::LazyLock;

use countersign_fuzz::{configuration, sources, text};
use countersign_policy::{Configuration, run_cases};
use libfuzzer_sys::fuzz_target;

static CONFIGURATION: LazyLock<Configuration> =
    LazyLock::new(|| configuration(&sources()).expect("the seeds are valid"));

fuzz_target!(|data: &[u8]| {
    let Some(cases) = text(data) else { return };
    match run_cases(&CONFIGURATION, cases) {
        Ok(results) => assert!(results.iter().all(|result| result.line > 0)),
        Err(problems) => assert!(!problems.is_empty()),
    }
});
