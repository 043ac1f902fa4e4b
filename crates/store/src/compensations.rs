//! Compensations that auditors have requested.

use countersign_core::ids::{ActionId, AuditId};
use uuid::Uuid;

use crate::{StoreError, Transaction};

/// Records an auditor's request to undo an action; the first request stands. Returns whether this is the first.
pub async fn request(
    tx: &Transaction,
    action: ActionId,
    audit: AuditId,
    auditor: &str,
) -> Result<bool, StoreError> {
    let sql =
        "INSERT INTO compensations (action, audit, asked_by) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    Ok(tx.execute(sql, &[&action.0, &audit.0, &auditor]).await? == 1)
}

/// Those of these actions that an auditor wants undone, with the auditor.
pub async fn requested(
    tx: &Transaction,
    actions: &[ActionId],
) -> Result<Vec<(ActionId, String)>, StoreError> {
    let ids: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    let sql = "SELECT action, asked_by FROM compensations WHERE action = ANY($1) ORDER BY action";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&ids]).await?;
    Ok(rows.iter().map(|row| (ActionId(row.get(0)), row.get(1))).collect())
}

/// Those of these actions for which a compensation has been proposed, with the compensating action.
pub async fn proposed(
    tx: &Transaction,
    actions: &[ActionId],
) -> Result<Vec<(ActionId, ActionId)>, StoreError> {
    let ids: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    let sql = "SELECT compensates, id FROM actions WHERE compensates = ANY($1) ORDER BY id";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&ids]).await?;
    Ok(rows.iter().map(|row| (ActionId(row.get(0)), ActionId(row.get(1)))).collect())
}

/// Actions whose compensation was requested more than `seconds` ago and has not been proposed yet.
pub async fn to_propose(tx: &Transaction, seconds: f64) -> Result<Vec<ActionId>, StoreError> {
    let sql = "SELECT action FROM compensations c
               WHERE asked_at < now() - make_interval(secs => $1)
                 AND NOT EXISTS (SELECT FROM actions a WHERE a.compensates = c.action)
                 AND NOT EXISTS (SELECT FROM remediations r WHERE r.action = c.action)
               ORDER BY asked_at LIMIT 100";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&seconds]).await?;
    Ok(rows.iter().map(|row| ActionId(row.get(0))).collect())
}
