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

/// Records that these actions are withdrawn.
pub async fn insert(tx: &Transaction, references: &[&ActionRef]) -> Result<(), StoreError> {
    let (sources, ids) = columns(references);
    let sql = "INSERT INTO cancellations (source, event_id) SELECT * FROM UNNEST($1::text[], $2::text[])
               ORDER BY 1, 2 ON CONFLICT DO NOTHING";
    tx.execute(&tx.prepare_cached(sql).await?, &[&sources, &ids]).await?;
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
