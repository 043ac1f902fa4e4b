//! Findings as people sign them.
#![no_main]

use countersign_core::message::FindingData;
use countersign_fuzz::signed::look;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| look::<FindingData>(data));
