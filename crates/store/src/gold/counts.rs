//! How auditors judged what is known.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{StoreError, Transaction, rates::count};

/// Gold items that a group, or one of its auditors, has judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The group.
    pub group: String,
    /// The auditor; absent for the group, whose items may each rest on several findings.
    pub auditor: Option<String>,
    /// Items known to be wrong.
    pub wrong: u64,
    /// Of these, found wrong.
    pub wrong_found: u64,
    /// Items known to be right.
    pub right: u64,
    /// Of these, found correct.
    pub right_found: u64,
}

/// What was found of the items that were settled in `from..to`: each group, followed by its auditors. Whoever was unsure, or had
/// judged the action before, does not count.
pub async fn judged(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Judged>, StoreError> {
    let sql = "WITH settled AS (SELECT * FROM gold_items WHERE state = 'judged' AND judged_at >= $1 AND judged_at < $2),
               found AS (SELECT group_name, NULL AS auditor, known, finding FROM settled
                         UNION ALL SELECT s.group_name, f.auditor, s.known, f.finding
                                   FROM settled s JOIN gold_findings f ON f.item = s.id
                                   WHERE f.blind AND f.finding <> 'unsure')
               SELECT group_name, auditor,
                      count(*) FILTER (WHERE known = 'wrong') AS wrong,
                      count(*) FILTER (WHERE known = 'wrong' AND finding = 'wrong') AS wrong_found,
                      count(*) FILTER (WHERE known = 'correct') AS right,
                      count(*) FILTER (WHERE known = 'correct' AND finding = 'correct') AS right_found
               FROM found GROUP BY group_name, auditor ORDER BY group_name, auditor NULLS FIRST";
    let rows = tx.query(sql, &[&from, &to]).await?;
    Ok(rows
        .iter()
        .map(|row| Judged {
            group: row.get("group_name"),
            auditor: row.get("auditor"),
            wrong: count(row, "wrong"),
            wrong_found: count(row, "wrong_found"),
            right: count(row, "right"),
            right_found: count(row, "right_found"),
        })
        .collect())
}

/// The rules of executed actions accepted in `from..to`, each with a group that audits what it leads to.
pub async fn rules_of_groups(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<(String, String)>, StoreError> {
    let sql = "SELECT DISTINCT rule, audit_group FROM actions
               WHERE started_at IS NOT NULL AND ended_at IS NOT NULL AND proposed_at >= $1 AND proposed_at < $2
               ORDER BY rule, audit_group";
    let rows = tx.query(sql, &[&from, &to]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
