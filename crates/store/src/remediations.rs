//! Remediation tasks: what a tool cannot undo, people remedy.

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

/// Closes an open task with the proof that it is done. Returns its action; `None` if there is no such open task.
pub async fn close(
    tx: &Transaction,
    id: Uuid,
    by: &str,
    proof: &str,
) -> Result<Option<ActionId>, StoreError> {
    let sql = "UPDATE remediations SET closed_at = clock_timestamp(), closed_by = $2, evidence = $3
               WHERE id = $1 AND closed_at IS NULL RETURNING action";
    let Some(row) = tx.query_opt(sql, &[&id, &by, &storable(proof)]).await? else { return Ok(None) };
    let action = ActionId(row.get(0));
    // The proof may name people: it stays in the table, where it can be erased.
    let noted = RemediationClosed { remediation: id, by: by.into() };
    evidence::insert(tx, &[Evidence::of(action, Event::RemediationClosed(noted))]).await?;
    Ok(Some(action))
}

/// A task in a list.
#[derive(Clone, Debug, Serialize)]
pub struct Remediation {
    /// Its id.
    pub id: Uuid,
    /// The action to be remedied.
    pub action: ActionId,
    /// The proposal's `id`.
    pub event_id: String,
    /// The tool.
    pub tool: String,
    /// The group that remedies it.
    pub owner: String,
    /// Why a tool cannot.
    pub reason: String,
    /// When it is due.
    pub due_at: DateTime<Utc>,
    /// Whether it is still open after that.
    pub overdue: bool,
    /// Who closed it.
    pub closed_by: Option<String>,
    /// The proof that it is done.
    pub evidence: Option<String>,
}

/// Tasks, the earliest due first. `all` includes closed ones.
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
