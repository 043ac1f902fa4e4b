//! Counts of groups of actions, for comparisons of their rates.

use chrono::{DateTime, Utc};
use tokio_postgres::{Row, types::ToSql};

use crate::{StoreError, Transaction, rates::count};

/// By what actions are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// The text, number or truth value at this path of an action's content.
    Content(Vec<String>),
    /// What is said of the acting agent: pairs of an agent's id and a name.
    Agent(Vec<(String, String)>),
    /// Agent, tool and stratum.
    Stratum,
}

/// Which actions are counted, and how.
#[derive(Clone, Debug)]
pub struct GroupQuery {
    /// Actions accepted since then ...
    pub from: DateTime<Utc>,
    /// ... and before then.
    pub to: DateTime<Utc>,
    /// When the later period begins; `to` if there is only one.
    pub split: DateTime<Utc>,
    /// By what they are grouped.
    pub by: GroupBy,
    /// The group that is listed first, whatever its size.
    pub reference: Option<String>,
    /// The fewest actions of a listed group in each period.
    pub least: u64,
    /// The most groups that are listed, the largest first.
    pub groups: u32,
    /// Into how many equally long blocks a period is divided.
    pub blocks: u32,
    /// After how many seconds a request for approval has waited long.
    pub slow_seconds: f64,
    /// The most rows to read.
    pub rows: u32,
}

/// What is counted of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// All its actions.
    Actions,
    /// Of what was executed: found wrong.
    Wrong,
    /// Of what reviewers decided: rejected.
    Rejected,
    /// Of requests for approval whose time is over: not answered in time.
    Slow,
    /// Of what was executed: drawn for an audit.
    Audited,
}

impl Measure {
    /// The measures that are compared.
    pub const COMPARED: [Measure; 4] = [Self::Wrong, Self::Rejected, Self::Slow, Self::Audited];

    fn read(name: &str) -> Result<Self, StoreError> {
        Ok(match name {
            "actions" => Self::Actions,
            "wrong" => Self::Wrong,
            "rejected" => Self::Rejected,
            "slow" => Self::Slow,
            "audited" => Self::Audited,
            other => return Err(StoreError::Corrupt(format!("{other:?} is no measure"))),
        })
    }
}

/// Actions of a group with one inclusion probability in one block of time.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupCounts {
    /// Whether it is known to which group they belong; if there is no name besides, it is not listed.
    pub known: bool,
    /// The group's name: one part, or agent, tool and stratum.
    pub group: Option<Vec<String>>,
    /// Whether they are of the later period.
    pub later: bool,
    /// What is counted.
    pub measure: Measure,
    /// The inclusion probability π of each.
    pub pi: f64,
    /// The block, from 1.
    pub block: u32,
    /// How many there are.
    pub executed: u64,
    /// Of these, judged, or counted without a draw.
    pub judged: u64,
    /// Of these, wrong, or whatever else is measured.
    pub positive: u64,
    /// Drawn and not judged yet.
    pub missing: u64,
}

/// Counts groups, in order of their names, periods, measures, inclusion probabilities and blocks.
pub async fn group_counts(tx: &Transaction, query: &GroupQuery) -> Result<Vec<GroupCounts>, StoreError> {
    let path = match &query.by {
        GroupBy::Content(path) => Some(path),
        _ => None,
    };
    let (agents, names): (Option<Vec<&str>>, Option<Vec<&str>>) = match &query.by {
        GroupBy::Agent(named) => {
            let (agents, names) = named.iter().map(|(agent, name)| (agent.as_str(), name.as_str())).unzip();
            (Some(agents), Some(names))
        }
        _ => (None, None),
    };
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let least = i64::try_from(query.least).unwrap_or(i64::MAX);
    let reference = query.reference.as_deref().map(|name| vec![name]);
    let parameters: [&(dyn ToSql + Sync); 12] = [
        &query.from,
        &query.to,
        &number(query.blocks),
        &query.slow_seconds,
        &least,
        &reference,
        &i64::from(query.groups),
        &i64::from(query.rows),
        &query.split,
        &path,
        &agents,
        &names,
    ];
    tx.query(include_str!("sql/comparison.sql"), &parameters).await?.iter().map(counts).collect()
}

fn counts(row: &Row) -> Result<GroupCounts, StoreError> {
    Ok(GroupCounts {
        known: row.get("known"),
        group: row.get("label"),
        later: row.get("later"),
        measure: Measure::read(row.get("measure"))?,
        pi: row.get("pi"),
        block: u32::try_from(row.get::<_, i32>("block")).unwrap_or_default(),
        executed: count(row, "executed"),
        judged: count(row, "judged"),
        positive: count(row, "positive"),
        missing: count(row, "missing"),
    })
}
