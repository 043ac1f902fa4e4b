//! Whether agents make fewer errors as they go on: each version's first half beside its second.
//!
//! To split at the first feedback would be biased, for the part before it would end with an error by construction: at 1 %
//! errors it shows 4.6 times as many.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use countersign_store::{
    Transaction,
    learning::versions::{AgentStratum, VersionStratum, agent_strata, version_counts},
    rates::DrawCounts,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rates::Rate;
use crate::AppError;

/// A version of an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Version {
    /// The agent's id.
    pub agent: String,
    /// The version that it states; empty where it states none.
    pub version: String,
    /// When a human first found an error: an audit settled as wrong, a rejection, an edit.
    pub first_feedback: Option<DateTime<Utc>>,
    /// The error rate of the half of its executed actions that was accepted earlier; absent if nothing was executed.
    pub earlier: Option<Rate>,
    /// The error rate of the half that was accepted later; absent if that is empty.
    pub later: Option<Rate>,
}

/// The version stated in an action's content, or in the stratum's name if the content is erased.
fn stated(content: Option<&[u8]>, stratum: &str) -> String {
    let content: Option<Value> = content.and_then(|content| serde_json::from_slice(content).ok());
    match content {
        Some(content) => content.pointer("/agent/version").and_then(Value::as_str).unwrap_or_default().into(),
        None => stratum.split_once('@').map(|(_, version)| version.to_owned()).unwrap_or_default(),
    }
}

/// The versions in order of agents, and for each stratum the index of its version.
fn named(strata: &[AgentStratum]) -> (Vec<Version>, Vec<usize>) {
    let mut versions: Vec<Version> = Vec::new();
    let mut indexes: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut index_of = Vec::with_capacity(strata.len());
    for AgentStratum { stratum, agent, first_feedback, content } in strata {
        let version = stated(content.as_deref(), stratum);
        let index = *indexes.entry((agent, version.clone())).or_insert_with(|| {
            let agent = agent.clone();
            versions.push(Version { agent, version, first_feedback: None, earlier: None, later: None });
            versions.len() - 1
        });
        if let Some(version) = versions.get_mut(index) {
            version.first_feedback = version.first_feedback.into_iter().chain(*first_feedback).min();
        }
        index_of.push(index);
    }
    (versions, index_of)
}

/// The versions of agents that had something executed in `from..to`.
pub(super) async fn versions(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Version>, AppError> {
    let strata = agent_strata(tx, from, to).await?;
    let (mut versions, indexes) = named(&strata);
    let asked: Vec<VersionStratum<'_>> = strata
        .iter()
        .zip(indexes)
        .map(|(AgentStratum { stratum, agent, .. }, version)| VersionStratum { stratum, agent, version })
        .collect();
    let mut halves: BTreeMap<(usize, bool), Vec<DrawCounts>> = BTreeMap::new();
    for counted in version_counts(tx, from, to, &asked).await? {
        halves.entry((counted.version, counted.later)).or_default().push(counted.counts);
    }
    for ((number, later), counts) in &halves {
        if let Some(version) = versions.get_mut(*number) {
            *(if *later { &mut version.later } else { &mut version.earlier }) =
                Rate::of(counts, halves.len());
        }
    }
    versions.retain(|version| version.earlier.is_some());
    versions.sort_by(|one, other| (&one.agent, &one.version).cmp(&(&other.agent, &other.version)));
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_what_the_agent_states_and_else_what_the_stratum_says() {
        let content = br#"{"agent": {"id": "bot", "version": "release/2"}}"#;
        assert_eq!(stated(Some(content), "pay/send/bot@release/2/small"), "release/2");
        assert_eq!(stated(Some(b"{}"), "pay/send/bot@"), "");
        assert_eq!(stated(None, "pay/send/bot@1@2"), "1@2");
    }
}
