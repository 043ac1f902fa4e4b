//! Keys that have been revoked: no later configuration brings one back.

use crate::{StoreError, Transaction};

/// Records keys as revoked.
pub async fn insert(tx: &Transaction, kids: &[&str], by: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO revoked_keys (kid, revoked_by) SELECT kid, $2 FROM UNNEST($1::text[]) kid
               ON CONFLICT DO NOTHING";
    tx.execute(sql, &[&kids, &by]).await?;
    Ok(())
}

/// Those of these keys that have been revoked.
pub async fn of(tx: &Transaction, kids: &[&str]) -> Result<Vec<String>, StoreError> {
    let rows = tx.query("SELECT kid FROM revoked_keys WHERE kid = ANY($1)", &[&kids]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
