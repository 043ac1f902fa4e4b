//! What may have to be erased: the message as received, the canonical content, the salt.

use countersign_core::{digest::Salt, ids::ActionId};
use uuid::Uuid;

use crate::{Pipeline, StoreError, Transaction, transaction::parameters};

/// One action's payload.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The action it belongs to.
    pub action: ActionId,
    /// The message as received; empty where it was over the size limit.
    pub body: Vec<u8>,
    /// RFC 8785 form of what a human approves, where the message could be decoded.
    pub content: Option<Vec<u8>>,
    /// The salt of both digests.
    pub salt: Salt,
    /// Salted SHA-256 of the proposal's `data`: distinguishes a repetition from a conflict.
    pub body_digest: [u8; 32],
    /// Salted SHA-256 of `content`: what approvals and permits are bound to.
    pub digest: [u8; 32],
}

/// Stores payloads of new actions.
pub async fn insert<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    rows: &'a [Payload],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO payloads (action, body, content, salt, body_digest, digest)
             SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[])";
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let bodies: Vec<&[u8]> = rows.iter().map(|row| row.body.as_slice()).collect();
    let contents: Vec<Option<&[u8]>> = rows.iter().map(|row| row.content.as_deref()).collect();
    let salts: Vec<&[u8]> = rows.iter().map(|row| row.salt.as_slice()).collect();
    let body_digests: Vec<&[u8]> = rows.iter().map(|row| row.body_digest.as_slice()).collect();
    let digests: Vec<&[u8]> = rows.iter().map(|row| row.digest.as_slice()).collect();
    writes.add(tx, sql, parameters![actions, bodies, contents, salts, body_digests, digests]).await
}

/// Binds an action to changed content: what was approved before no longer matches. `edited` are the canonical
/// arguments that a reviewer put in place of the agent's, if one did; `salt` is that of `digest`.
pub async fn replace_content<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    action: ActionId,
    content: &'a [u8],
    salt: &'a Salt,
    digest: &'a [u8; 32],
    edited: Option<&'a [u8]>,
) -> Result<(), StoreError> {
    let sql =
        "UPDATE payloads SET content = $2, content_salt = $3, digest = $4, edited = $5 WHERE action = $1";
    writes.add(tx, sql, parameters![action.0, content, salt.as_slice(), digest.as_slice(), edited]).await
}
