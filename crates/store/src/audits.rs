//! Audits of executed actions.

use chrono::{DateTime, Utc};
use countersign_core::{
    ids::{ActionId, AuditId},
    message::Finding,
};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use crate::{StoreError, outcomes::storable};

/// An audit to be opened.
#[derive(Clone, Debug)]
pub struct NewAudit {
    /// Its id.
    pub id: AuditId,
    /// What is audited.
    pub action: ActionId,
    /// Who may judge it.
    pub group: String,
    /// `sampled` or `in_doubt`.
    pub reason: &'static str,
}

/// Opens audits, one per action at most.
pub async fn open(tx: &Transaction<'_>, rows: &[NewAudit]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO audits (id, action, group_name, reason, state)
             SELECT id, action, group_name, reason, 'open'
             FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS u (id, action, group_name, reason)
             ON CONFLICT (action) DO NOTHING",
        )
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let groups: Vec<&str> = rows.iter().map(|row| row.group.as_str()).collect();
    let reasons: Vec<&str> = rows.iter().map(|row| row.reason).collect();
    tx.execute(&statement, &[&ids, &actions, &groups, &reasons]).await?;
    Ok(())
}

/// An audit as stored.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// Its id.
    pub id: AuditId,
    /// What is audited.
    pub action: ActionId,
    /// Who may judge it.
    pub group: String,
    /// `sampled` or `in_doubt`.
    pub reason: String,
    /// Whether nobody has judged it yet.
    pub open: bool,
    /// Since when.
    pub opened_at: DateTime<Utc>,
    /// Who judged it, and what they found.
    pub judged: Option<(String, String)>,
}

fn record(row: &tokio_postgres::Row) -> AuditRecord {
    AuditRecord {
        id: AuditId(row.get(0)),
        action: ActionId(row.get(1)),
        group: row.get(2),
        reason: row.get(3),
        open: row.get::<_, &str>(4) == "open",
        opened_at: row.get(5),
        judged: row.get::<_, Option<String>>(6).zip(row.get(7)),
    }
}

const COLUMNS: &str =
    "SELECT id, action, group_name, reason, state, opened_at, judged_by, finding FROM audits";

/// The open audits of these actions.
pub async fn open_of(tx: &Transaction<'_>, actions: &[ActionId]) -> Result<Vec<AuditRecord>, StoreError> {
    let sql = format!("{COLUMNS} WHERE action = ANY($1) AND state = 'open'");
    let statement = tx.prepare_cached(&sql).await?;
    let actions: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    Ok(tx.query(&statement, &[&actions]).await?.iter().map(record).collect())
}

/// One audit, locked.
pub async fn lock(tx: &Transaction<'_>, id: AuditId) -> Result<Option<AuditRecord>, StoreError> {
    let sql = format!("{COLUMNS} WHERE id = $1 FOR UPDATE");
    Ok(tx.query_opt(&sql, &[&id.0]).await?.as_ref().map(record))
}

/// Records the finding of a locked, open audit.
pub async fn judge(
    tx: &Transaction<'_>,
    id: AuditId,
    finding: Finding,
    note: Option<&str>,
    correction: Option<&[u8]>,
    by: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE audits SET state = 'judged', finding = $2, note = $3, correction = $4, judged_by = $5,
                      judged_at = clock_timestamp()
               WHERE id = $1 AND state = 'open'";
    tx.execute(sql, &[&id.0, &finding.as_str(), &note.map(storable), &correction, &by]).await?;
    Ok(())
}

/// Notes that open audits were published again.
pub async fn published(tx: &Transaction<'_>, ids: &[AuditId]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    tx.execute("UPDATE audits SET published_at = now() WHERE id = ANY($1) AND state = 'open'", &[&ids])
        .await?;
    Ok(())
}

/// The actions of these audits.
pub async fn actions_of(tx: &Transaction<'_>, ids: &[AuditId]) -> Result<Vec<ActionId>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = tx.query("SELECT action FROM audits WHERE id = ANY($1)", &[&ids]).await?;
    Ok(rows.iter().map(|row| ActionId(row.get(0))).collect())
}
