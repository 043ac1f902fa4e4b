//! Separation of duties, the same for reviewers and auditors: who is behind an action or its policy judges neither.

use countersign_core::refusal::{Code, Complaint};
use serde_json::Value;

use crate::governed::Governed;

/// Checks that a person may judge an action of `agent`: neither as its owner, nor as the one whom it serves, nor as who
/// wrote or applied the policy. `stated` is the agent as the proposal describes it.
///
/// # Errors
/// [`Code::Requester`], [`Code::PolicyAuthor`].
pub fn check(governed: &Governed, agent: &str, stated: &Value, person: &str) -> Result<(), Complaint> {
    if is_requester(governed, agent, stated, person) {
        let why = "whoever owns the agent, requests an action or is served by it may not judge it";
        return Err((Code::Requester, why.into()));
    }
    if governed.configuration.policy.author() == Some(person) || governed.applied_by == person {
        let why = "whoever wrote or applied the policy may not judge what it leads to";
        return Err((Code::PolicyAuthor, why.into()));
    }
    Ok(())
}

/// Whether a person is behind the request: the agent's owner, or the person on whose behalf it acts.
fn is_requester(governed: &Governed, agent: &str, stated: &Value, person: &str) -> bool {
    let agent = governed.configuration.directory.agent(agent);
    if agent.and_then(|agent| agent.owner.as_deref()) == Some(person) {
        return true;
    }
    let served = stated.get("on_behalf_of").and_then(Value::as_str).unwrap_or_default();
    // `customer:mia` and `mia` are the same person.
    served == person || served.rsplit(':').next() == Some(person)
}
