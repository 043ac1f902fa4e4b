//! Counts of what humans have prevented and corrected, and of how far they agree.

pub mod versions;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::{StoreError, Transaction, rates::count};

/// Counts of what humans have decided and found.
#[derive(Clone, Copy, Debug)]
pub struct LearningCounts {
    /// Found wrong, and undone by a tool or remedied by people.
    pub corrected: u64,
    /// Actions that reviewers rejected, or answered with a message.
    pub rejections: u64,
    /// Actions whose arguments reviewers changed.
    pub edits: u64,
    /// Rejections that an auditor has judged.
    pub rejections_audited: u64,
    /// Of these, found right to have been rejected.
    pub rejections_upheld: u64,
    /// Of the actions that two have judged: both found it wrong.
    pub both_wrong: u64,
    /// Only the first did.
    pub first_wrong: u64,
    /// Only the second did.
    pub second_wrong: u64,
    /// Both found it correct.
    pub both_correct: u64,
    /// Open remediation tasks.
    pub tasks_open: u64,
    /// Of these, overdue.
    pub tasks_overdue: u64,
}

/// A group whose capacity lowered its rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lowered {
    /// The group.
    pub group: String,
    /// The number of epochs in the time range.
    pub epochs: u64,
    /// What was left of its rates in the worst of them, 0 to 1.
    pub remaining: f64,
    /// The most audits that one of these epochs would have requested.
    pub demand: f64,
    /// The fewest audits that it could judge in one of them.
    pub capacity: Option<f64>,
}

/// Counts human decisions and findings on the actions accepted in `from..to`.
pub async fn counts(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<LearningCounts, StoreError> {
    let row = tx.query_one(include_str!("sql/learning.sql"), &[&from, &to]).await?;
    Ok(LearningCounts {
        corrected: count(&row, "corrected"),
        rejections: count(&row, "rejections"),
        edits: count(&row, "edits"),
        rejections_audited: count(&row, "rejections_audited"),
        rejections_upheld: count(&row, "rejections_upheld"),
        both_wrong: count(&row, "both_wrong"),
        first_wrong: count(&row, "first_wrong"),
        second_wrong: count(&row, "second_wrong"),
        both_correct: count(&row, "both_correct"),
        tasks_open: count(&row, "tasks_open"),
        tasks_overdue: count(&row, "tasks_overdue"),
    })
}

/// Groups whose capacity lowered their rates in `from..to`.
pub async fn lowered(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Lowered>, StoreError> {
    let rows = tx.query(include_str!("sql/lowered.sql"), &[&from, &to]).await?;
    let lowered = |row: &Row| Lowered {
        group: row.get("group_name"),
        epochs: count(row, "epochs"),
        remaining: row.get("remaining"),
        demand: row.get("demand"),
        capacity: row.get("capacity"),
    };
    Ok(rows.iter().map(lowered).collect())
}
