//! Whether agents make fewer errors after they were told of one.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use countersign_statistics::estimate::Group;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::{Row, types::ToSql};

use super::count;
use crate::{StoreError, Transaction, rates::Rate};

/// A version of an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Version {
    /// The agent's id.
    pub agent: String,
    /// The version that it states; empty where it states none.
    pub version: String,
    /// When a human first told it of an error: an audit settled as wrong, a rejection, an edit.
    pub first_feedback: Option<DateTime<Utc>>,
    /// What it proposed before that, or ever where it was told of none; absent where nothing was executed.
    pub before: Option<Rate>,
    /// What it proposed after that; absent where nothing was executed.
    pub after: Option<Rate>,
}

/// A stratum, and which of the versions it belongs to.
struct Stratum {
    name: String,
    agent: String,
    version: usize,
}

/// The version that an action's content states. Where that is erased, what the stratum's name says after the agent.
fn stated(content: Option<&[u8]>, stratum: &str) -> String {
    let content: Option<Value> = content.and_then(|content| serde_json::from_slice(content).ok());
    match content {
        Some(content) => content.pointer("/agent/version").and_then(Value::as_str).unwrap_or_default().into(),
        None => stratum.split_once('@').map(|(_, version)| version.to_owned()).unwrap_or_default(),
    }
}

/// The versions in order of agents, and their strata.
fn named(rows: &[Row]) -> (Vec<Version>, Vec<Stratum>) {
    let mut versions: Vec<Version> = Vec::new();
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut strata = Vec::with_capacity(rows.len());
    for row in rows {
        let (name, agent): (String, String) = (row.get("stratum"), row.get("agent"));
        let told: Option<DateTime<Utc>> = row.get("first_lesson");
        let version = stated(row.get("content"), &name);
        let place = *places.entry((agent.clone(), version.clone())).or_insert_with(|| {
            let agent = agent.clone();
            versions.push(Version { agent, version, first_feedback: None, before: None, after: None });
            versions.len() - 1
        });
        if let Some(version) = versions.get_mut(place) {
            version.first_feedback = version.first_feedback.into_iter().chain(told).min();
        }
        strata.push(Stratum { name, agent, version: place });
    }
    (versions, strata)
}

/// The rate on one side of a version's first lesson.
fn rate(rows: &[&Row]) -> Option<Rate> {
    let (mut names, mut executed, mut groups): (Vec<&str>, Vec<u64>, Vec<Group>) = Default::default();
    for row in rows {
        let name: &str = row.get("stratum");
        if names.last() != Some(&name) {
            names.push(name);
            executed.push(0);
        }
        if let Some(executed) = executed.last_mut() {
            *executed += count(row, "executed");
        }
        groups.push(Group {
            stratum: names.len() - 1,
            pi: row.get("pi"),
            judged: count(row, "judged"),
            wrong: count(row, "wrong"),
            missing: count(row, "missing"),
        });
    }
    (!groups.is_empty()).then(|| Rate::of(None, &executed, &groups))
}

/// The versions of agents that had something executed in `from..to`.
pub(super) async fn versions(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Version>, StoreError> {
    let (mut versions, strata) =
        named(&tx.query(include_str!("../sql/agent_strata.sql"), &[&from, &to]).await?);
    let names: Vec<&str> = strata.iter().map(|stratum| stratum.name.as_str()).collect();
    let agents: Vec<&str> = strata.iter().map(|stratum| stratum.agent.as_str()).collect();
    let numbers: Vec<i64> =
        strata.iter().map(|stratum| i64::try_from(stratum.version).unwrap_or(i64::MAX)).collect();
    let told = |stratum: &Stratum| versions.get(stratum.version).and_then(|version| version.first_feedback);
    let told: Vec<Option<DateTime<Utc>>> = strata.iter().map(told).collect();
    let parameters: [&(dyn ToSql + Sync); 6] = [&from, &to, &names, &agents, &numbers, &told];
    let rows = tx.query(include_str!("../sql/version_rates.sql"), &parameters).await?;
    let mut sides: BTreeMap<(usize, bool), Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        let number = usize::try_from(row.get::<_, i64>("version")).unwrap_or(usize::MAX);
        sides.entry((number, row.get("after"))).or_default().push(row);
    }
    for ((number, after), rows) in &sides {
        if let Some(version) = versions.get_mut(*number) {
            *(if *after { &mut version.after } else { &mut version.before }) = rate(rows);
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
