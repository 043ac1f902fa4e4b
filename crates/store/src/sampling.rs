//! The coin's throws.

use countersign_core::{ids::ActionId, keyed::Throw};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use crate::StoreError;

/// A throw to be stored.
#[derive(Clone, Debug)]
pub struct NewThrow {
    /// Whose.
    pub action: ActionId,
    /// The epoch whose key was used.
    pub epoch: i64,
    /// The stratum.
    pub stratum: String,
    /// π, R and whether it was selected.
    pub throw: Throw,
    /// Why π is 1 whatever the rule says.
    pub forced: Option<&'static str>,
}

/// Stores throws; an action that has one keeps it. Returns the actions whose throw is new.
pub async fn insert(tx: &Transaction<'_>, rows: &[NewThrow]) -> Result<Vec<ActionId>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO sampling (action, epoch, stratum, pi, r, selected, forced)
             SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::float8[], $5::bigint[], $6::bool[],
                                  $7::text[])
             ON CONFLICT (action) DO NOTHING RETURNING action",
        )
        .await?;
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let epochs: Vec<i64> = rows.iter().map(|row| row.epoch).collect();
    let strata: Vec<&str> = rows.iter().map(|row| row.stratum.as_str()).collect();
    let pis: Vec<f64> = rows.iter().map(|row| row.throw.pi).collect();
    // 56 bits fit a signed 64-bit number.
    let rs: Vec<i64> = rows.iter().map(|row| i64::try_from(row.throw.r).unwrap_or(i64::MAX)).collect();
    let selected: Vec<bool> = rows.iter().map(|row| row.throw.selected).collect();
    let forced: Vec<Option<&str>> = rows.iter().map(|row| row.forced).collect();
    let new = tx.query(&statement, &[&actions, &epochs, &strata, &pis, &rs, &selected, &forced]).await?;
    Ok(new.iter().map(|row| ActionId(row.get(0))).collect())
}
