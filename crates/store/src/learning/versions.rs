//! Strata by the agents that acted in them, for the error rates of an agent's versions.

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;

use crate::{StoreError, Transaction, rates::DrawCounts};

/// A stratum in which an agent acted.
#[derive(Clone, Debug)]
pub struct AgentStratum {
    /// The stratum.
    pub stratum: String,
    /// The agent's id.
    pub agent: String,
    /// When a human first gave feedback on it: an audit settled as wrong, a rejection, an edit.
    pub first_feedback: Option<DateTime<Utc>>,
    /// The canonical content of one of its actions; absent where it is erased.
    pub content: Option<Vec<u8>>,
}

/// The strata of what agents did in `from..to`, in order of agents.
pub async fn agent_strata(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<AgentStratum>, StoreError> {
    let rows = tx.query(include_str!("../sql/agent_strata.sql"), &[&from, &to]).await?;
    let stratum = |row: &tokio_postgres::Row| AgentStratum {
        stratum: row.get("stratum"),
        agent: row.get("agent"),
        first_feedback: row.get("first_feedback"),
        content: row.get("content"),
    };
    Ok(rows.iter().map(stratum).collect())
}

/// A stratum, and which version of an agent it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct VersionStratum<'a> {
    /// The stratum.
    pub stratum: &'a str,
    /// The agent's id.
    pub agent: &'a str,
    /// The version, as a number of the caller's.
    pub version: usize,
}

/// Half of what a version had executed.
#[derive(Clone, Debug)]
pub struct VersionCounts {
    /// The version, by the caller's number.
    pub version: usize,
    /// Whether it is the half that was accepted later.
    pub later: bool,
    /// The counts.
    pub counts: DrawCounts,
}

/// Counts the executed of the actions accepted in `from..to` by version and half, strata and inclusion probabilities in
/// order.
pub async fn version_counts(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    strata: &[VersionStratum<'_>],
) -> Result<Vec<VersionCounts>, StoreError> {
    let names: Vec<&str> = strata.iter().map(|stratum| stratum.stratum).collect();
    let agents: Vec<&str> = strata.iter().map(|stratum| stratum.agent).collect();
    let versions: Vec<i64> =
        strata.iter().map(|stratum| i64::try_from(stratum.version).unwrap_or(i64::MAX)).collect();
    let parameters: [&(dyn ToSql + Sync); 5] = [&from, &to, &names, &agents, &versions];
    let rows = tx.query(include_str!("../sql/version_rates.sql"), &parameters).await?;
    let counted = |row: &tokio_postgres::Row| VersionCounts {
        version: usize::try_from(row.get::<_, i64>("version")).unwrap_or(usize::MAX),
        later: row.get("later"),
        counts: DrawCounts::read(row),
    };
    Ok(rows.iter().map(counted).collect())
}
