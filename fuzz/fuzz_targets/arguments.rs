//! An agent's arguments against a tool schema that uses every kind of keyword.
#![no_main]

use std::sync::LazyLock;

use countersign_core::json::parse_strict;
use countersign_fuzz::{canonical_of, configuration, sources};
use countersign_policy::{Configuration, Sources};
use libfuzzer_sys::fuzz_target;

static CONFIGURATION: LazyLock<Configuration> = LazyLock::new(|| {
    let tools = include_str!("../seeds/tools/schema.yaml").into();
    configuration(&Sources { tools, ..sources() }).expect("the seeds are valid")
});

fuzz_target!(|data: &[u8]| {
    let Ok(arguments) = parse_strict(data) else { return };
    for tool in CONFIGURATION.tools.iter() {
        let checked = tool.check_arguments(&arguments);
        assert!(checked.as_ref().err().is_none_or(|why| why.len() < 8_000), "{checked:?}");
        // The arguments are checked in the form in which they are sent.
        let sent = parse_strict(&canonical_of(&arguments)).expect("a canonical form can be parsed");
        assert_eq!(tool.check_arguments(&sent), checked);
    }
});
