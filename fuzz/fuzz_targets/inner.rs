//! Messages between our own processes: commands, and packs of settled actions.
#![no_main]

use countersign_core::message::{CloudEvent, Command, SettledPack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(event) = serde_json::from_slice::<CloudEvent<Command>>(data) {
        let written = serde_json::to_vec(&event).expect("an event can be serialized");
        let again: CloudEvent<Command> = serde_json::from_slice(&written).expect("a serialized event can be parsed");
        assert_eq!(again.data, event.data);
    }
    if let Ok(event) = serde_json::from_slice::<CloudEvent<SettledPack>>(data) {
        let written = serde_json::to_vec(&event).expect("an event can be serialized");
        let again: CloudEvent<SettledPack> = serde_json::from_slice(&written).expect("a serialized event can be parsed");
        assert_eq!(again.data.actions, event.data.actions);
    }
});
