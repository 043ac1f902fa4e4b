//! Signed findings.
#![no_main]

use countersign_core::message::FindingData;
use countersign_fuzz::signed::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| parse::<FindingData>(data));
