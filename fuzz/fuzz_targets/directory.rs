//! `directory.yaml`: a broker user belongs to one agent, person or app, and a key to one owner.
#![no_main]

use std::collections::BTreeSet;

use countersign_fuzz::{configuration, sources, text};
use countersign_policy::{Sources, add_missing_keys, registered_keys};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(text) = text(data) else { return };
    if let Ok(keys) = registered_keys(text) {
        // Adding keys to the file that lists them already must not fail.
        let _ = add_missing_keys(text, &keys);
    }
    let Some(configuration) = configuration(&Sources { directory: text.into(), ..sources() }) else { return };
    let directory = &configuration.directory;
    let agents = directory.agents().iter().map(|agent| agent.amqp_user.as_str());
    let senders = directory.senders().filter_map(|sender| sender.amqp_user());
    let auditors = directory.auditors().iter().filter_map(|auditor| auditor.amqp_user.as_deref());
    let readers = directory.compliance().iter().map(|reader| reader.amqp_user.as_str());
    let mut users = BTreeSet::new();
    for user in agents.chain(senders).chain(auditors).chain(readers) {
        assert!(users.insert(user), "{user:?} belongs to two entries");
        let roles = [
            directory.agent_of_user(user).is_some(),
            directory.sender_of_user(user).is_some(),
            directory.auditor_of_user(user).is_some(),
        ];
        assert!(roles.into_iter().filter(|is| *is).count() <= 1, "{user:?} belongs to two entries");
    }
    let mut kids = BTreeSet::new();
    assert!(directory.keys().all(|key| kids.insert(key.kid.as_str())), "a key has two owners");
});
