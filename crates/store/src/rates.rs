//! Counts of what drawn audits have found in executed actions, from which error rates are estimated.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use crate::{StoreError, Transaction};

/// Executed actions of one stratum with one inclusion probability, and their audits.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawCounts {
    /// The rule.
    pub rule: String,
    /// The stratum.
    pub stratum: String,
    /// The inclusion probability π of each.
    pub pi: f64,
    /// Actions whose tool was called.
    pub executed: u64,
    /// Audits that were drawn and judged.
    pub judged: u64,
    /// Judged wrong.
    pub wrong: u64,
    /// Audits that were drawn and not judged yet.
    pub missing: u64,
}

impl DrawCounts {
    pub(crate) fn read(row: &Row) -> Self {
        Self {
            rule: row.get("rule"),
            stratum: row.get("stratum"),
            pi: row.get("pi"),
            executed: count(row, "executed"),
            judged: count(row, "judged"),
            wrong: count(row, "wrong"),
            missing: count(row, "missing"),
        }
    }
}

pub(crate) fn count(row: &Row, column: &str) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or_default()
}

/// Counts the executed of the actions accepted in `from..to`, in order of rules, strata and inclusion probabilities.
pub async fn draws(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<DrawCounts>, StoreError> {
    let rows = tx.query(include_str!("sql/rates.sql"), &[&from, &to]).await?;
    Ok(rows.iter().map(DrawCounts::read).collect())
}

/// Executed actions of one rule with one inclusion probability and one score, and their audits.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreCounts {
    /// The rule.
    pub rule: String,
    /// The inclusion probability π of each.
    pub pi: f64,
    /// How likely each was thought to be wrong, 0 to 1.
    pub score: f64,
    /// Actions whose tool was called.
    pub executed: u64,
    /// Audits that were drawn and judged.
    pub judged: u64,
    /// Judged wrong.
    pub wrong: u64,
    /// Audits that were drawn and not judged yet.
    pub missing: u64,
}

/// Counts the executed of the actions accepted in `from..to` by the scores of rules that have them, in order of rules.
pub async fn scores(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<ScoreCounts>, StoreError> {
    let rows = tx.query(include_str!("sql/scores.sql"), &[&from, &to]).await?;
    let counts = |row: &Row| ScoreCounts {
        rule: row.get("rule"),
        pi: row.get("pi"),
        score: row.get("score"),
        executed: count(row, "executed"),
        judged: count(row, "judged"),
        wrong: count(row, "wrong"),
        missing: count(row, "missing"),
    };
    Ok(rows.iter().map(counts).collect())
}
