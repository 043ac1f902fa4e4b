//! The parts of a bundle besides entries: policies, contents, statements.

use countersign_core::ids::ActionId;

use crate::{StoreError, Transaction};

/// The text of a policy.
pub async fn policy(tx: &Transaction, digest: &str) -> Result<Option<String>, StoreError> {
    let sql = "SELECT policy FROM configs WHERE policy_digest = $1 LIMIT 1";
    Ok(tx.query_opt(sql, &[&digest]).await?.map(|row| row.get(0)))
}

/// An action's content and the salt of its digest, unless it was erased, or the proposal was unreadable.
pub async fn content(tx: &Transaction, action: ActionId) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
    let sql = "SELECT content, coalesce(content_salt, salt) FROM payloads WHERE action = $1 AND content IS NOT NULL";
    Ok(tx.query_opt(sql, &[&action.0]).await?.map(|row| (row.get(0), row.get(1))))
}

/// The tool's answer to an action and the salt of its digest, unless it was erased.
pub async fn result(tx: &Transaction, action: ActionId) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
    let sql = "SELECT o.result, p.salt FROM outcomes o JOIN payloads p USING (action)
               WHERE o.action = $1 AND o.seq = 1 AND o.result IS NOT NULL";
    Ok(tx.query_opt(sql, &[&action.0]).await?.map(|row| (row.get(0), row.get(1))))
}

/// Whether all evidence of an action is in the ledger.
pub async fn is_recorded(tx: &Transaction, action: ActionId) -> Result<bool, StoreError> {
    let sql = "SELECT NOT EXISTS (SELECT FROM evidence e WHERE e.action = $1
                                  AND NOT EXISTS (SELECT FROM ledger l WHERE l.evidence = e.id))";
    Ok(tx.query_one(sql, &[&action.0]).await?.get(0))
}

/// A signed statement about an action.
#[derive(Clone, Debug)]
pub struct StatementRow {
    /// The key that signed it.
    pub kid: String,
    /// The signed bytes.
    pub jws: String,
    /// The values behind the digests in it.
    pub disclosures: Vec<String>,
}

/// All statements about an action, in order of arrival.
pub async fn statements(tx: &Transaction, action: ActionId) -> Result<Vec<StatementRow>, StoreError> {
    let sql =
        "SELECT kid, jws, disclosures FROM statements WHERE actions @> ARRAY[$1::uuid] ORDER BY received_at";
    let statement = |row: &tokio_postgres::Row| StatementRow {
        kid: row.get(0),
        jws: row.get(1),
        disclosures: row.get(2),
    };
    Ok(tx.query(sql, &[&action.0]).await?.iter().map(statement).collect())
}

/// Ids of all configurations, the newest first.
pub async fn configs(tx: &Transaction) -> Result<Vec<i64>, StoreError> {
    Ok(tx.query("SELECT id FROM configs ORDER BY id DESC", &[]).await?.iter().map(|row| row.get(0)).collect())
}
