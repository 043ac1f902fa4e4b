//! Outcomes that have been stored and whose publishing the broker has not confirmed yet.

use countersign_core::ids::ActionId;
use uuid::Uuid;

use crate::{Pipeline, Store, StoreError, Transaction, sweeps::SWEEP_MAX, transaction::parameters};

/// The part of a statement that notes actions as pending. `ids` selects them; it may select none.
pub(crate) fn noted(ids: &str) -> String {
    format!(
        "notified AS (INSERT INTO pending_notifications (actions)
                      SELECT array_agg(id) FROM ({ids}) stored HAVING count(*) > 0 RETURNING id)"
    )
}

/// Deletes notes whose outcomes the broker has confirmed. Does not wait for the disk: a deletion that a crash undoes only
/// causes a repetition.
pub async fn confirmed(store: &Store, notes: &[i64]) -> Result<(), StoreError> {
    if notes.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM pending_notifications
               WHERE id = ANY($1) AND set_config('synchronous_commit', 'off', true) = 'off'";
    let client = store.client().await?;
    client.execute(&client.prepare_cached(sql).await?, &[&notes]).await?;
    Ok(())
}

/// [`confirmed`], for actions whose notes are unknown. Reads all notes, of which there are few.
pub async fn confirmed_actions(store: &Store, actions: &[ActionId]) -> Result<(), StoreError> {
    if actions.is_empty() {
        return Ok(());
    }
    let actions: Vec<Uuid> = actions.iter().map(|action| action.0).collect();
    let tx = store.transaction().await?;
    let mut writes = Pipeline::default();
    let sql = "UPDATE pending_notifications SET actions = ARRAY(SELECT unnest(actions) EXCEPT SELECT unnest($1::uuid[]))
               WHERE actions && $1::uuid[]";
    writes.add(&tx, sql, parameters![actions]).await?;
    writes.add(&tx, "DELETE FROM pending_notifications WHERE actions = '{}'", vec![]).await?;
    tx.commit_with(&writes).await.map(drop)
}

/// Actions whose outcomes were stored more than `seconds` ago and are still not confirmed. Each is found again only
/// after ten times as long, so that a broker that refuses them is not flooded.
pub async fn overdue(tx: &Transaction, seconds: f64) -> Result<Vec<ActionId>, StoreError> {
    // The condition is repeated: another executor's sweep may have found the same rows meanwhile.
    let due = "coalesce(repeated_at + 10 * make_interval(secs => $1), stored_at + make_interval(secs => $1)) < now()";
    let sql = format!(
        "UPDATE pending_notifications p SET repeated_at = now()
         FROM (SELECT id, sum(cardinality(actions)) OVER (ORDER BY id) - cardinality(actions) AS before
               FROM pending_notifications WHERE {due}) due
         WHERE p.id = due.id AND due.before < $2 AND {due}
         RETURNING p.actions"
    );
    let rows = tx.query(&tx.prepare_cached(&sql).await?, &[&seconds, &SWEEP_MAX]).await?;
    Ok(rows.iter().flat_map(|row| row.get::<_, Vec<Uuid>>(0)).map(ActionId).collect())
}
