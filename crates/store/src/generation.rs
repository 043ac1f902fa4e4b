//! The active generation: which configuration and holds are in force.

use chrono::{DateTime, Utc};
use countersign_core::{
    evidence::{ConfigApplied, Event},
    ids::ActionId,
    sources::Sources,
};
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;

use crate::{
    Pipeline, Store, StoreError, Transaction, actions,
    evidence::{self, Evidence},
};

/// What is in force, read under a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// Counts up with every change.
    pub generation: i64,
    /// Row of `configs`.
    pub config: i64,
    /// The database's clock at the start of the transaction.
    pub now: DateTime<Utc>,
}

/// Begins a transaction that reads the active generation and keeps it from changing until it ends.
///
/// `now` is the statement's clock, not the transaction's start: time spent waiting for the lock has passed.
pub async fn begin(store: &Store) -> Result<(Transaction, Active), StoreError> {
    begin_locked(store, &[]).await
}

/// [`begin`], which then locks actions ([`actions::lock`]). The clock may have been read before the actions were
/// locked.
pub async fn begin_locked(store: &Store, ids: &[ActionId]) -> Result<(Transaction, Active), StoreError> {
    let client = store.client().await?;
    let mut reads = Pipeline::default();
    share(&client, &mut reads).await?;
    if !ids.is_empty() {
        actions::locking(&client, &mut reads, ids).await?;
    }
    let (tx, rows) = Transaction::begin_with(client, &reads).await?;
    Ok((tx, shared(&rows)?))
}

/// Adds [`begin`]'s statement to a pipeline, as the first one.
pub(crate) async fn share(client: &ClientWrapper, reads: &mut Pipeline<'_>) -> Result<(), StoreError> {
    reads.add(client, "SELECT generation, config, clock_timestamp() FROM active FOR SHARE", vec![]).await
}

/// The result of [`share`].
pub(crate) fn shared(rows: &[Vec<Row>]) -> Result<Active, StoreError> {
    rows.first().and_then(|rows| rows.first()).map(active).ok_or(StoreError::NoGeneration)
}

/// Locks the active generation in order to change it: waits until no other transaction uses it.
pub async fn lock_exclusive(tx: &Transaction) -> Result<Active, StoreError> {
    lock(tx, "SELECT generation, config, clock_timestamp() FROM active FOR UPDATE").await
}

/// Reads the active generation without keeping it from changing: for callers that decide nothing about an execution.
pub async fn read(tx: &Transaction) -> Result<Active, StoreError> {
    lock(tx, "SELECT generation, config, clock_timestamp() FROM active").await
}

async fn lock(tx: &Transaction, sql: &str) -> Result<Active, StoreError> {
    let statement = tx.prepare_cached(sql).await?;
    let row = tx.query_opt(&statement, &[]).await?.ok_or(StoreError::NoGeneration)?;
    Ok(active(&row))
}

fn active(row: &Row) -> Active {
    Active { generation: row.get(0), config: row.get(1), now: row.get(2) }
}

/// The database's clock.
pub async fn now(tx: &Transaction) -> Result<DateTime<Utc>, StoreError> {
    Ok(tx.query_one(&tx.prepare_cached("SELECT clock_timestamp()").await?, &[]).await?.get(0))
}

/// The texts of a configuration.
pub async fn sources(tx: &Transaction, config: i64) -> Result<Sources, StoreError> {
    let statement = tx.prepare_cached("SELECT policy, tools, directory FROM configs WHERE id = $1").await?;
    let row = tx.query_one(&statement, &[&config]).await?;
    Ok(Sources { policy: row.get(0), tools: row.get(1), directory: row.get(2) })
}

/// The configurations that were ever applied, oldest first: which, and when.
pub async fn applied(tx: &Transaction) -> Result<Vec<(i64, DateTime<Utc>)>, StoreError> {
    let rows = tx.query("SELECT id, applied_at FROM configs ORDER BY id", &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Which policy a configuration has.
#[derive(Clone, Copy, Debug)]
pub struct PolicyIdentity<'a> {
    /// The version that its author gave it.
    pub version: &'a str,
    /// `sha256:` and the hex digest of its text.
    pub digest: &'a str,
}

/// Makes a checked configuration the active one. Returns the new generation.
pub async fn activate(
    tx: &Transaction,
    sources: &Sources,
    policy: PolicyIdentity<'_>,
    by: &str,
) -> Result<i64, StoreError> {
    let config: i64 = tx
        .query_one(
            "INSERT INTO configs (policy, tools, directory, policy_version, policy_digest, applied_by)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            &[&sources.policy, &sources.tools, &sources.directory, &policy.version, &policy.digest, &by],
        )
        .await?
        .get(0);
    let generation: i64 = tx
        .query_one(
            "INSERT INTO active (generation, config) VALUES (1, $1)
             ON CONFLICT (only_row) DO UPDATE SET generation = active.generation + 1, config = $1
             RETURNING generation",
            &[&config],
        )
        .await?
        .get(0);
    let noted = ConfigApplied {
        generation,
        config,
        by: by.into(),
        policy_version: policy.version.into(),
        policy_digest: policy.digest.into(),
    };
    evidence::insert(tx, &[Evidence::global(Event::ConfigApplied(noted))]).await?;
    Ok(generation)
}

/// Advances the generation without changing the configuration, for holds and sampling plans.
pub(crate) async fn advance(tx: &Transaction) -> Result<i64, StoreError> {
    lock_exclusive(tx).await?;
    let row = tx.query_one("UPDATE active SET generation = generation + 1 RETURNING generation", &[]).await?;
    Ok(row.get(0))
}

/// The operator who made a configuration active.
pub async fn applied_by(tx: &Transaction, config: i64) -> Result<String, StoreError> {
    Ok(tx.query_one("SELECT applied_by FROM configs WHERE id = $1", &[&config]).await?.get(0))
}

/// The digest of a configuration's policy.
pub async fn policy_digest(tx: &Transaction, config: i64) -> Result<String, StoreError> {
    Ok(tx.query_one("SELECT policy_digest FROM configs WHERE id = $1", &[&config]).await?.get(0))
}
