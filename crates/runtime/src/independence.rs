//! Separation of duties, the same for reviewers and auditors: who is behind an action or its policy judges neither.
//!
//! Duties are separated by person: the directory says which ids are one.

use countersign_core::{
    person::Persons as _,
    refusal::{Code, Complaint},
};
use countersign_policy::Directory;
use serde_json::Value;

use crate::governed::Governed;

/// Checks that a person may judge an action of `agent`: neither as its owner, nor as the one whom it serves, nor as who
/// wrote or applied the policy. `stated` is the agent as the proposal describes it; `judge` is an id of the person.
///
/// # Errors
/// [`Code::Requester`], [`Code::PolicyAuthor`].
pub fn check(governed: &Governed, agent: &str, stated: &Value, judge: &str) -> Result<(), Complaint> {
    let directory = &governed.configuration.directory;
    if is_requester(directory, agent, stated, judge) {
        let why = "whoever owns the agent, requests an action or is served by it may not judge it";
        return Err((Code::Requester, why.into()));
    }
    let author = governed.configuration.policy.author();
    if author.into_iter().chain([governed.applied_by.as_str()]).any(|id| directory.same(id, judge)) {
        let why = "whoever wrote or applied the policy may not judge what it leads to";
        return Err((Code::PolicyAuthor, why.into()));
    }
    Ok(())
}

/// Whether a person is behind the request: the agent's owner, or the person on whose behalf it acts, who for a
/// compensation is the auditor who asked for it.
fn is_requester(directory: &Directory, agent: &str, stated: &Value, judge: &str) -> bool {
    let owner = directory.agent(agent).and_then(|agent| agent.owner.as_deref());
    let served = stated.get("on_behalf_of").and_then(Value::as_str);
    // `customer:mia` and `mia` are the same person.
    let plain = served.and_then(|served| served.rsplit(':').next());
    [owner, served, plain].into_iter().flatten().any(|id| directory.same(id, judge))
}
