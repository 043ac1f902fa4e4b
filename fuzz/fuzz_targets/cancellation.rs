//! An agent's withdrawal.
#![no_main]

use countersign_core::message::CancelData;
use countersign_fuzz::event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    event::<CancelData>(data);
});
