//! Signed decisions.
#![no_main]

use countersign_core::message::DecisionData;
use countersign_fuzz::signed::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| parse::<DecisionData>(data));
