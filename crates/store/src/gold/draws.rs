//! What the draw asks for, until it is due.

use countersign_core::ids::{ActionId, ActionRef};
use uuid::Uuid;

use crate::{StoreError, Transaction, sweeps::SWEEP_MAX};

/// A draw that asks for a gold item.
#[derive(Clone, Debug)]
pub struct NewGoldDraw {
    /// The action whose audit drew it.
    pub action: ActionId,
    /// The epoch whose key was used.
    pub epoch: i64,
    /// The group that is to judge it.
    pub group: String,
}

/// Stores draws that ask for a gold item, each due at some moment of the next `spread` seconds: the two requests do not come
/// together. That moment is not keyed, so that nobody learns it with the epoch's key.
pub async fn insert_draws(tx: &Transaction, rows: &[NewGoldDraw], spread: f64) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO gold_draws (action, epoch, group_name, due_at)
               SELECT action, epoch, group_name, clock_timestamp() + make_interval(secs => random() * $4)
               FROM UNNEST($1::uuid[], $2::bigint[], $3::text[]) AS u (action, epoch, group_name)
               ON CONFLICT DO NOTHING";
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let epochs: Vec<i64> = rows.iter().map(|row| row.epoch).collect();
    let groups: Vec<&str> = rows.iter().map(|row| row.group.as_str()).collect();
    tx.execute(&tx.prepare_cached(sql).await?, &[&actions, &epochs, &groups, &spread]).await?;
    Ok(())
}

/// The actions whose gold items are due.
pub async fn due(tx: &Transaction) -> Result<Vec<ActionId>, StoreError> {
    let sql =
        "SELECT action FROM gold_draws WHERE opened_at IS NULL AND due_at <= now() ORDER BY due_at LIMIT $1";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&SWEEP_MAX]).await?;
    Ok(rows.iter().map(|row| ActionId(row.get(0))).collect())
}

/// A draw whose item is due.
#[derive(Clone, Debug)]
pub struct DueDraw {
    /// The action whose audit drew it.
    pub action: ActionId,
    /// As its agent calls it: the input of the draw.
    pub reference: ActionRef,
    /// The epoch.
    pub epoch: i64,
    /// The group that is to judge it.
    pub group: String,
}

/// Takes those of these draws that are due, once.
pub async fn take(tx: &Transaction, actions: &[ActionId]) -> Result<Vec<DueDraw>, StoreError> {
    let sql = "UPDATE gold_draws d SET opened_at = now() FROM actions a
               WHERE a.id = d.action AND d.action = ANY($1) AND d.opened_at IS NULL AND d.due_at <= now()
               RETURNING d.action, a.source, a.event_id, d.epoch, d.group_name";
    let actions: Vec<Uuid> = actions.iter().map(|action| action.0).collect();
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&actions]).await?;
    Ok(rows
        .iter()
        .map(|row| DueDraw {
            action: ActionId(row.get(0)),
            reference: ActionRef { source: row.get(1), id: row.get(2) },
            epoch: row.get(3),
            group: row.get(4),
        })
        .collect())
}
