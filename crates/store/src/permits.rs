//! Permits as issued: a permit has the same bytes whenever it is published.

use countersign_core::ids::{ActionId, PermitId};
use uuid::Uuid;

use crate::{Pipeline, StoreError, Transaction, transaction::parameters};

/// A permit to be stored.
#[derive(Clone, Debug)]
pub struct IssuedPermit {
    /// Its id.
    pub id: PermitId,
    /// The action that it permits.
    pub action: ActionId,
    /// The generation that it was issued under.
    pub generation: i64,
    /// The JSON that the signature covers.
    pub bytes: Vec<u8>,
}

/// Stores permits.
pub async fn insert<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    rows: &'a [IssuedPermit],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO permits (id, action, generation, bytes, issued_at)
             SELECT *, clock_timestamp() FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[])";
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let generations: Vec<i64> = rows.iter().map(|row| row.generation).collect();
    let bytes: Vec<&[u8]> = rows.iter().map(|row| row.bytes.as_slice()).collect();
    writes.add(tx, sql, parameters![ids, actions, generations, bytes]).await
}

/// The bytes of permits, in no particular order.
pub async fn bytes(tx: &Transaction, ids: &[PermitId]) -> Result<Vec<Vec<u8>>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = tx.prepare_cached("SELECT bytes FROM permits WHERE id = ANY($1)").await?;
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    Ok(tx.query(&statement, &[&ids]).await?.iter().map(|row| row.get(0)).collect())
}
