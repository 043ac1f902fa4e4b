//! What evidence records of a proposal: who acted, and the data that the decision rests on.

use countersign_core::{evidence::ActingAgent, proposal::Proposal};
use serde_json::Value;

use crate::shared::Router;

/// Who acted; the person on whose behalf it was, by pseudonym.
pub(super) fn describe(router: &Router, agent: &str, proposal: Option<&Proposal>) -> ActingAgent {
    let member_of = |member: &str| proposal.and_then(|p| p.agent.get(member)).cloned();
    ActingAgent {
        id: agent.into(),
        version: member_of("version"),
        model: member_of("model"),
        on_behalf_of: member_of("on_behalf_of")
            .and_then(|person| person.as_str().map(|person| router.keys.pseudonyms.of(person))),
    }
}

/// The digests of the data that the decision rests on, at most 32. The URIs are left out: they may name people.
pub(super) fn lineage(action: &Value) -> Vec<String> {
    let context = action.get("context").and_then(Value::as_array);
    context.into_iter().flatten().filter_map(digest).take(32).collect()
}

/// A well-formed digest only: any other text might be personal data.
fn digest(item: &Value) -> Option<String> {
    let text = item.get("digest")?.as_str()?;
    let hex = text.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.into())
}
