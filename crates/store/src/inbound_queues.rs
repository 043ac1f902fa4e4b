//! The queues that agents publish to. Each agent that was ever in an applied directory has one, and routers read all of them.

use crate::{Store, StoreError, Transaction};

/// Adds queues. One that is known stays.
pub async fn add(tx: &Transaction, queues: &[String]) -> Result<(), StoreError> {
    let sql = "INSERT INTO inbound_queues (queue) SELECT * FROM UNNEST($1::text[]) ON CONFLICT DO NOTHING";
    tx.execute(&tx.prepare_cached(sql).await?, &[&queues]).await?;
    Ok(())
}

/// All queues, in the order of their names.
pub async fn all(store: &Store) -> Result<Vec<String>, StoreError> {
    let client = store.client().await?;
    let statement = client.prepare_cached("SELECT queue FROM inbound_queues ORDER BY queue").await?;
    Ok(client.query(&statement, &[]).await?.iter().map(|row| row.get(0)).collect())
}
