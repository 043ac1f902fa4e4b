//! What is needed to repeat the choice of gold items.

use countersign_core::ids::{ActionId, ActionRef, AuditId};
use uuid::Uuid;

use crate::{StoreError, Transaction};

/// The choice of an item.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The action whose audit drew it.
    pub action: ActionId,
    /// As its agent calls it: the input of the draw.
    pub reference: ActionRef,
    /// The earlier audit that was chosen.
    pub audit: AuditId,
    /// Those among which it was chosen.
    pub candidates: Vec<AuditId>,
    /// Whether each of them had been settled before as the item says.
    pub settled: bool,
}

/// The choices of all items that were drawn in an epoch.
pub async fn choices(tx: &Transaction, epoch: i64) -> Result<Vec<Choice>, StoreError> {
    let sql = "SELECT d.action, a.source, a.event_id, g.audit, g.candidates,
                      (SELECT count(*) FROM audits u WHERE u.id = ANY (g.candidates) AND u.group_name = g.group_name
                         AND u.finding = g.known AND u.judged_at <= g.opened_at) = cardinality(g.candidates)
               FROM gold_draws d JOIN gold_items g ON g.draw = d.action JOIN actions a ON a.id = d.action
               WHERE d.epoch = $1 ORDER BY d.action";
    let rows = tx.query(sql, &[&epoch]).await?;
    Ok(rows
        .iter()
        .map(|row| Choice {
            action: ActionId(row.get(0)),
            reference: ActionRef { source: row.get(1), id: row.get(2) },
            audit: AuditId(row.get(3)),
            candidates: row.get::<_, Vec<Uuid>>(4).into_iter().map(AuditId).collect(),
            settled: row.get(5),
        })
        .collect())
}
