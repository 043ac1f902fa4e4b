//! `directory.yaml`: a broker's user is one agent or person, and a key has one owner.
#![no_main]

use std::collections::BTreeSet;

use countersign_fuzz::{configuration, sources, text};
use countersign_policy::{Sources, keys_of, with_keys};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(text) = text(data) else { return };
    if let Ok(keys) = keys_of(text) {
        // Registered keys given back to the file that has them change nothing that counts.
        let _ = with_keys(text, &keys);
    }
    let Some(configuration) = configuration(&Sources { directory: text.into(), ..sources() }) else { return };
    let directory = &configuration.directory;
    let agents = directory.agents().iter().map(|agent| agent.amqp_user.as_str());
    let senders = directory.senders().filter_map(|sender| sender.amqp_user());
    let auditors = directory.auditors().iter().filter_map(|auditor| auditor.amqp_user.as_deref());
    let readers = directory.compliance().iter().map(|reader| reader.amqp_user.as_str());
    let mut users = BTreeSet::new();
    for user in agents.chain(senders).chain(auditors).chain(readers) {
        assert!(users.insert(user), "{user:?} is two");
        let roles = [
            directory.agent_of_user(user).is_some(),
            directory.sender_of_user(user).is_some(),
            directory.auditor_of_user(user).is_some(),
        ];
        assert!(roles.into_iter().filter(|is| *is).count() <= 1, "{user:?} is two");
    }
    let mut kids = BTreeSet::new();
    assert!(directory.keys().all(|key| kids.insert(key.kid.as_str())), "a key has two owners");
});
