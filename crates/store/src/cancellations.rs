//! Actions that agents have withdrawn.

use countersign_core::ids::ActionRef;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;

use crate::{
    Pipeline, Store, StoreError, Transaction,
    generation::{self, Active},
    transaction::parameters,
};

fn columns<'a>(references: &[&'a ActionRef]) -> (Vec<&'a str>, Vec<&'a str>) {
    references.iter().map(|reference| (reference.source.as_str(), reference.id.as_str())).unzip()
}

/// How many actions that have not arrived an agent can withdraw in advance; of more, the oldest are forgotten.
pub const EARLY_MAX: i64 = 1_000;

/// Records that these actions are withdrawn, and forgets the oldest of each agent's that withdrew nothing when they came,
/// beyond [`EARLY_MAX`].
pub async fn insert(tx: &Transaction, references: &[&ActionRef]) -> Result<(), StoreError> {
    let (sources, ids) = columns(references);
    let sql = "INSERT INTO cancellations (source, event_id, early)
               SELECT source, event_id, NOT EXISTS
                 (SELECT FROM actions a WHERE a.source = u.source AND a.event_id = u.event_id)
               FROM UNNEST($1::text[], $2::text[]) AS u (source, event_id)
               ORDER BY 1, 2 ON CONFLICT DO NOTHING";
    tx.execute(&tx.prepare_cached(sql).await?, &[&sources, &ids]).await?;
    let sql =
        "DELETE FROM cancellations c USING (SELECT DISTINCT source FROM UNNEST($1::text[]) AS u (source)) u,
               LATERAL (SELECT event_id FROM cancellations e WHERE e.source = u.source AND e.early
                        ORDER BY e.requested_at DESC OFFSET $2) old
               WHERE c.source = u.source AND c.event_id = old.event_id";
    tx.execute(&tx.prepare_cached(sql).await?, &[&sources, &EARLY_MAX]).await?;
    Ok(())
}

/// Those of these actions that have been withdrawn.
pub async fn of(tx: &Transaction, references: &[&ActionRef]) -> Result<Vec<ActionRef>, StoreError> {
    let mut reads = Pipeline::default();
    select(tx, &mut reads, references).await?;
    Ok(withdrawn(&tx.run(&reads).await?))
}

/// Begins a transaction under the active generation ([`generation::begin`]) and reads which of these have been withdrawn, in
/// one trip.
pub async fn begin(
    store: &Store,
    references: &[&ActionRef],
) -> Result<(Transaction, Active, Vec<ActionRef>), StoreError> {
    let client = store.client().await?;
    let mut reads = Pipeline::default();
    generation::share(&client, &mut reads).await?;
    select(&client, &mut reads, references).await?;
    let (tx, rows) = Transaction::begin_with(client, &reads).await?;
    Ok((tx, generation::shared(&rows)?, withdrawn(&rows)))
}

async fn select<'a>(
    client: &ClientWrapper,
    reads: &mut Pipeline<'a>,
    references: &[&'a ActionRef],
) -> Result<(), StoreError> {
    let (sources, ids) = columns(references);
    let sql = "SELECT source, event_id FROM cancellations
               JOIN UNNEST($1::text[], $2::text[]) AS u (source, event_id) USING (source, event_id)";
    reads.add(client, sql, parameters![sources, ids]).await
}

fn withdrawn(rows: &[Vec<Row>]) -> Vec<ActionRef> {
    let rows = rows.last().into_iter().flatten();
    rows.map(|row| ActionRef { source: row.get(0), id: row.get(1) }).collect()
}
