//! Statements that are sent together are committed together, or not at all.

use anyhow::ensure;
use countersign_store::{Parameter, Pipeline, Store, StoreError};
use countersign_testkit::isolation::TestEnv;

async fn kept(store: &Store) -> anyhow::Result<Vec<i32>> {
    let tx = store.transaction().await?;
    let rows = tx.query("SELECT n FROM kept ORDER BY n", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A database with a test table, and a pool of one connection, which each transaction reuses.
async fn start() -> anyhow::Result<(TestEnv, Store)> {
    let env = TestEnv::new().await?;
    let store = Store::new(&env.database_url, "transactions", 1)?;
    let tx = store.transaction().await?;
    tx.batch_execute("CREATE TABLE kept (n integer PRIMARY KEY)").await?;
    tx.commit().await?;
    Ok((env, store))
}

const KEEP: &str = "INSERT INTO kept VALUES ($1)";

/// Inserts 1, runs `sql` with `value`, inserts 3, and commits.
async fn commit(store: &Store, sql: &str, value: Parameter<'_>) -> Result<(), StoreError> {
    let tx = store.transaction().await?;
    let mut writes = Pipeline::default();
    writes.add(&tx, KEEP, vec![Box::new(1)]).await?;
    writes.add(&tx, sql, vec![value]).await?;
    writes.add(&tx, KEEP, vec![Box::new(3)]).await?;
    tx.commit_with(&writes).await.map(drop)
}

#[tokio::test]
async fn the_last_statements_are_committed_together() -> anyhow::Result<()> {
    let (env, store) = start().await?;
    commit(&store, KEEP, Box::new(2)).await?;
    ensure!(kept(&store).await? == [1, 2, 3]);
    env.close().await
}

#[tokio::test]
async fn where_one_of_the_last_statements_fails_nothing_is_committed() -> anyhow::Result<()> {
    let (env, store) = start().await?;
    let Err(refused) = commit(&store, KEEP, Box::new(1)).await else { anyhow::bail!("committed") };
    // The error is that of the failed statement, not of those aborted because of it.
    ensure!(refused.is_refusal(), "{refused}");
    ensure!(kept(&store).await?.is_empty());
    commit(&store, KEEP, Box::new(2)).await?;
    ensure!(kept(&store).await? == [1, 2, 3]);
    env.close().await
}

#[tokio::test]
async fn where_one_of_the_last_statements_cannot_be_sent_nothing_is_committed() -> anyhow::Result<()> {
    let (env, store) = start().await?;
    // The server never receives it, and would commit the others.
    ensure!(commit(&store, KEEP, Box::new("two")).await.is_err());
    ensure!(kept(&store).await?.is_empty());
    commit(&store, KEEP, Box::new(2)).await?;
    ensure!(kept(&store).await? == [1, 2, 3]);
    env.close().await
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_rolled_back() -> anyhow::Result<()> {
    let (env, store) = start().await?;
    let tx = store.transaction().await?;
    tx.execute("INSERT INTO kept VALUES (1)", &[]).await?;
    drop(tx);
    ensure!(kept(&store).await?.is_empty());
    // Also if nobody awaits the answer any more.
    let tx = store.transaction().await?;
    let mut writes = Pipeline::default();
    writes.add(&tx, KEEP, vec![Box::new(1)]).await?;
    writes.add(&tx, "SELECT pg_sleep($1)", vec![Box::new(60.0)]).await?;
    let cancel = tx.cancel_token();
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), tx.run(&writes)).await;
    ensure!(given_up.is_err());
    drop(tx);
    cancel.cancel_query(tokio_postgres::NoTls).await?;
    ensure!(kept(&store).await?.is_empty());
    env.close().await
}
