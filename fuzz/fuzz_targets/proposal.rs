//! An agent's proposal: attributed to the source that it names, and bound by a digest to what the policy evaluates.
#![no_main]

use countersign_core::{
    digest::{Target, content},
    json::{envelope_ids, parse_strict},
    proposal::decode,
};
use countersign_fuzz::canonical_of;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const LIMIT: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let named = envelope_ids(data);
    let proposal = match decode(data, LIMIT) {
        Ok(proposal) => proposal,
        Err(refusal) => {
            assert!(!refusal.message.is_empty());
            let reference = refusal.reference.map(|reference| (reference.source, reference.id));
            assert!(reference.is_none() || reference == named);
            return;
        }
    };
    assert!(data.len() <= LIMIT);
    let reference = &proposal.reference;
    assert_eq!(Some((reference.source.clone(), reference.id.clone())), named);
    assert_eq!(proposal.action["source"], reference.source);
    assert_eq!(proposal.action["id"], reference.id);
    assert_eq!(proposal.action["arguments"], proposal.arguments);
    assert_eq!(proposal.action["tool"], proposal.tool);
    assert_eq!(proposal.agent["id"], proposal.agent_id);
    let target =
        Target { tool: proposal.tool.clone(), version: "1".into(), endpoint: "POST http://t".into() };
    let bound = content(&proposal.agent, &proposal.arguments, &target).expect("content has a canonical form");
    let shown: Value = serde_json::from_slice(&bound).expect("JSON");
    assert_eq!(shown["arguments"], proposal.arguments, "a reviewer sees what the policy evaluates");
    assert_eq!(shown["agent"], proposal.agent);
    // Serialized from what was parsed, it is the same proposal.
    let mut event = parse_strict(data).expect("the input is strict JSON");
    event["data"] = proposal.action.clone();
    let again = decode(&canonical_of(&event), usize::MAX).expect("a serialized proposal can be decoded");
    assert_eq!((&again.reference, &again.action), (reference, &proposal.action));
    assert_eq!((again.time, again.expires_at), (proposal.time, proposal.expires_at));
    assert_eq!(
        (again.supersedes, json!(again.traceparent)),
        (proposal.supersedes, json!(proposal.traceparent))
    );
});
