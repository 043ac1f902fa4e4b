//! What reviewers decided, how long they took, and what audits have found of it.

use chrono::{DateTime, Utc};

use crate::{StoreError, Transaction};

/// One reviewer's last decision on an action.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewedCase {
    /// The reviewer.
    pub reviewer: String,
    /// The rule that asked for approval.
    pub rule: String,
    /// The action's stratum.
    pub stratum: String,
    /// The decision: `approve`, `reject`, `edit` or `respond`.
    pub decision: String,
    /// Whether it replaced another decision of theirs on the same content.
    pub changed: bool,
    /// From the opening of the request to their first decision on it, in seconds; absent where the request was replaced since.
    pub seconds: Option<f64>,
    /// Whether what followed is what they decided: what they approved was executed, or the action ended as rejected.
    pub stands: bool,
    /// The inclusion probability of the action; 0 without a draw.
    pub pi: f64,
    /// Whether it was drawn for an audit.
    pub selected: bool,
    /// What the audit has found, `correct` or `wrong`: of a rejected action, whether the rejection was.
    pub finding: Option<String>,
}

/// The decisions on actions accepted in `from..to`, at most `limit`, in order of rules and strata.
pub async fn reviewed(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<ReviewedCase>, StoreError> {
    let rows = tx.query(include_str!("sql/reviewers.sql"), &[&from, &to, &i64::from(limit)]).await?;
    let case = |row: &tokio_postgres::Row| ReviewedCase {
        reviewer: row.get("reviewer"),
        rule: row.get("rule"),
        stratum: row.get("stratum"),
        decision: row.get("decision"),
        changed: row.get("changed"),
        seconds: row.get("seconds"),
        stands: row.get("stands"),
        pi: row.get("pi"),
        selected: row.get("selected"),
        finding: row.get("finding"),
    };
    Ok(rows.iter().map(case).collect())
}
