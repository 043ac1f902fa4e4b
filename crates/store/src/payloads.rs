//! What may have to be erased: the message as received, the canonical content, the salt.

use std::collections::HashMap;

use countersign_core::{digest::Salt, ids::ActionId};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use crate::StoreError;

/// One action's payload.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Whose.
    pub action: ActionId,
    /// The message as received; empty where it was over the size limit.
    pub body: Vec<u8>,
    /// RFC 8785 form of what a human approves, where the message could be decoded.
    pub content: Option<Vec<u8>>,
    /// For both digests.
    pub salt: Salt,
    /// Salted SHA-256 of the proposal's `data`: tells a repetition from a conflict.
    pub body_digest: [u8; 32],
    /// Salted SHA-256 of `content`: what approvals and permits are bound to.
    pub digest: [u8; 32],
}

/// Stores payloads of new actions.
pub async fn insert(tx: &Transaction<'_>, rows: &[Payload]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO payloads (action, body, content, salt, body_digest, digest)
             SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[])",
        )
        .await?;
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let bodies: Vec<&[u8]> = rows.iter().map(|row| row.body.as_slice()).collect();
    let contents: Vec<Option<&[u8]>> = rows.iter().map(|row| row.content.as_deref()).collect();
    let salts: Vec<&[u8]> = rows.iter().map(|row| row.salt.as_slice()).collect();
    let body_digests: Vec<&[u8]> = rows.iter().map(|row| row.body_digest.as_slice()).collect();
    let digests: Vec<&[u8]> = rows.iter().map(|row| row.digest.as_slice()).collect();
    tx.execute(&statement, &[&actions, &bodies, &contents, &salts, &body_digests, &digests]).await?;
    Ok(())
}

/// Binds an action to changed content: what was approved before no longer matches. `edited` are the canonical
/// arguments that a reviewer put in place of the agent's, if one did; `salt` is that of `digest`.
pub async fn replace_content(
    tx: &Transaction<'_>,
    action: ActionId,
    content: &[u8],
    salt: &Salt,
    digest: &[u8; 32],
    edited: Option<&[u8]>,
) -> Result<(), StoreError> {
    let sql =
        "UPDATE payloads SET content = $2, content_salt = $3, digest = $4, edited = $5 WHERE action = $1";
    tx.execute(sql, &[&action.0, &content, &salt.as_slice(), &digest.as_slice(), &edited]).await?;
    Ok(())
}

/// The salts of actions: their results are known by digests under these as well, so that one erasure takes both.
pub async fn salts(
    tx: &Transaction<'_>,
    actions: &[ActionId],
) -> Result<HashMap<ActionId, Salt>, StoreError> {
    let sql = "SELECT action, salt FROM payloads WHERE action = ANY($1)";
    let ids: Vec<Uuid> = actions.iter().map(|action| action.0).collect();
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&ids]).await?;
    let salt = |row: &tokio_postgres::Row| {
        Some((ActionId(row.get(0)), Salt::try_from(row.get::<_, &[u8]>(1)).ok()?))
    };
    Ok(rows.iter().filter_map(salt).collect())
}
