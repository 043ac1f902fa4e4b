//! Remediation tasks: what a tool cannot undo, people put right.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_core::{
    evidence::{Event, RemediationClosed, RemediationOpened},
    ids::ActionId,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    StoreError, Transaction,
    evidence::{self, Evidence},
    outcomes::storable,
};

/// Opens a task for an action, once, and writes the evidence.
pub async fn open(
    tx: &Transaction,
    action: ActionId,
    owner: &str,
    reason: &str,
    due_in: TimeDelta,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO remediations (id, action, owner, reason, due_at)
               VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
               ON CONFLICT (action) DO NOTHING RETURNING due_at";
    let (id, seconds) = (Uuid::now_v7(), due_in.num_milliseconds() as f64 / 1_000.0);
    let Some(row) = tx.query_opt(sql, &[&id, &action.0, &owner, &reason, &seconds]).await? else {
        return Ok(());
    };
    let (owner, reason) = (owner.into(), reason.into());
    let noted = RemediationOpened { remediation: id, owner, reason, due_at: row.get(0) };
    evidence::insert(tx, &[Evidence::of(action, Event::RemediationOpened(noted))]).await
}

/// Closes an open task with what shows that it is done. Returns its action; nothing where there is no such task.
pub async fn close(
    tx: &Transaction,
    id: Uuid,
    by: &str,
    shown: &str,
) -> Result<Option<ActionId>, StoreError> {
    let sql = "UPDATE remediations SET closed_at = clock_timestamp(), closed_by = $2, evidence = $3
               WHERE id = $1 AND closed_at IS NULL RETURNING action";
    let Some(row) = tx.query_opt(sql, &[&id, &by, &storable(shown)]).await? else { return Ok(None) };
    let action = ActionId(row.get(0));
    // What was written may name people: it stays in the table, where it can be erased.
    let noted = RemediationClosed { remediation: id, by: by.into() };
    evidence::insert(tx, &[Evidence::of(action, Event::RemediationClosed(noted))]).await?;
    Ok(Some(action))
}

/// A task in a list.
#[derive(Clone, Debug, Serialize)]
pub struct Remediation {
    /// Its id.
    pub id: Uuid,
    /// What is to be put right.
    pub action: ActionId,
    /// As its agent calls it.
    pub event_id: String,
    /// The tool.
    pub tool: String,
    /// The group that puts it right.
    pub owner: String,
    /// Why a tool cannot.
    pub reason: String,
    /// Until when.
    pub due_at: DateTime<Utc>,
    /// Whether that has passed, and nobody has closed it.
    pub overdue: bool,
    /// Who closed it.
    pub closed_by: Option<String>,
    /// What shows that it is done.
    pub evidence: Option<String>,
}

/// Tasks; those that are due first come first. `all` includes what is closed.
pub async fn list(tx: &Transaction, all: bool, limit: i64) -> Result<Vec<Remediation>, StoreError> {
    let sql = "SELECT r.id, r.action, a.event_id, a.tool, r.owner, r.reason, r.due_at,
                      r.closed_at IS NULL AND r.due_at < now(), r.closed_by, r.evidence
               FROM remediations r JOIN actions a ON a.id = r.action
               WHERE $1 OR r.closed_at IS NULL ORDER BY r.due_at LIMIT $2";
    let task = |row: &tokio_postgres::Row| Remediation {
        id: row.get(0),
        action: ActionId(row.get(1)),
        event_id: row.get(2),
        tool: row.get(3),
        owner: row.get(4),
        reason: row.get(5),
        due_at: row.get(6),
        overdue: row.get(7),
        closed_by: row.get(8),
        evidence: row.get(9),
    };
    Ok(tx.query(sql, &[&all, &limit]).await?.iter().map(task).collect())
}
