//! Whether agents make fewer errors after the first feedback on them.

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
    /// The error rate of what it proposed before that, or ever without feedback; absent if nothing was executed.
    pub before: Option<Rate>,
    /// The error rate of what it proposed after that; absent if nothing was executed.
    pub after: Option<Rate>,
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
            versions.push(Version { agent, version, first_feedback: None, before: None, after: None });
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
        .map(|(stratum, version)| VersionStratum {
            stratum: &stratum.stratum,
            agent: &stratum.agent,
            version,
            first_feedback: versions.get(version).and_then(|version| version.first_feedback),
        })
        .collect();
    let mut sides: BTreeMap<(usize, bool), Vec<DrawCounts>> = BTreeMap::new();
    for counted in version_counts(tx, from, to, &asked).await? {
        sides.entry((counted.version, counted.after)).or_default().push(counted.counts);
    }
    for ((number, after), counts) in &sides {
        if let Some(version) = versions.get_mut(*number) {
            *(if *after { &mut version.after } else { &mut version.before }) = Rate::overall(counts);
        }
    }
    versions.retain(|version| version.before.is_some() || version.after.is_some());
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
