//! Sampling epochs: each key is committed to when its epoch opens and revealed after it has closed.

use chrono::{DateTime, Utc};
use countersign_core::{
    digest::tagged,
    evidence::{EpochOpened, Event},
};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    StoreError, Transaction,
    evidence::{self, Evidence},
    gold,
};

/// The epoch to draw in: that of the clock, unless its key is known because the clock was set back. Then it is the one after
/// all whose keys are known, until the clock has caught up.
pub async fn current(tx: &Transaction, clock: i64) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce((SELECT (SELECT max(epoch) + 1 FROM epoch_keys) FROM epoch_keys WHERE epoch = $1), $1)";
    Ok(tx.query_one(&tx.prepare_cached(sql).await?, &[&clock]).await?.get(0))
}

/// Opens an epoch, once, with the commitment to its key, and writes the evidence.
pub async fn open(
    tx: &Transaction,
    epoch: i64,
    commitment: &[u8; 32],
    ends_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO epochs (epoch, commitment, ends_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    if tx.execute(&tx.prepare_cached(sql).await?, &[&epoch, &commitment.as_slice(), &ends_at]).await? == 0 {
        return Ok(());
    }
    let noted = EpochOpened { epoch, commitment: tagged(commitment), ends_at };
    evidence::insert(tx, &[Evidence::global(Event::EpochOpened(noted))]).await
}

/// How long the key of an epoch stays secret because auditors have not judged all gold items that were drawn with it, in seconds
/// from its end. Then these are withdrawn.
const WAITS_FOR_GOLD: f64 = 2.0 * 86_400.0;

/// Whether an epoch `e` waits for nothing that its key would give away.
const AWAITED: &str = "(e.ends_at < clock_timestamp() - make_interval(secs => $1)
    OR NOT EXISTS (SELECT FROM gold_draws d LEFT JOIN gold_items g ON g.draw = d.action
                   WHERE d.epoch = e.epoch AND (d.opened_at IS NULL OR g.state = 'open')))";

/// Epochs whose keys are to be revealed: they ended more than `seconds` ago, and no gold item of them is open.
pub async fn to_reveal(tx: &Transaction, seconds: f64) -> Result<Vec<i64>, StoreError> {
    let sql = format!(
        "SELECT epoch FROM epochs e WHERE ends_at < now() - make_interval(secs => $2) AND {AWAITED}
         AND NOT EXISTS (SELECT FROM epoch_keys k WHERE k.epoch = e.epoch) ORDER BY epoch LIMIT 100"
    );
    let rows = tx.query(&tx.prepare_cached(&sql).await?, &[&WAITS_FOR_GOLD, &seconds]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Reveals the key of such an epoch, once. Returns whether this call revealed it. Gold items that have stayed open too long are
/// withdrawn.
pub async fn reveal(tx: &Transaction, epoch: i64, key: &[u8; 32], seconds: f64) -> Result<bool, StoreError> {
    let sql = format!(
        "INSERT INTO epoch_keys (epoch, key) SELECT epoch, $4 FROM epochs e
         WHERE epoch = $3 AND ends_at < clock_timestamp() - make_interval(secs => $2) AND {AWAITED}
         ON CONFLICT DO NOTHING"
    );
    let parameters: [&(dyn ToSql + Sync); 4] = [&WAITS_FOR_GOLD, &seconds, &epoch, &key.as_slice()];
    let revealed = tx.execute(&sql, &parameters).await? == 1;
    if revealed {
        gold::close_epoch(tx, epoch).await?;
    }
    Ok(revealed)
}

/// An epoch with what is needed to check it.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Its number.
    pub epoch: i64,
    /// SHA-256 of its key, published when it opened.
    pub commitment: Vec<u8>,
    /// Its key, where it has closed.
    pub key: Option<Vec<u8>>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
}

/// All epochs, or one, in order.
pub async fn list(tx: &Transaction, epoch: Option<i64>) -> Result<Vec<Epoch>, StoreError> {
    let sql = "SELECT epoch, commitment, key, ends_at FROM epochs LEFT JOIN epoch_keys USING (epoch)
               WHERE $1::bigint IS NULL OR epoch = $1 ORDER BY epoch";
    let rows = tx.query(sql, &[&epoch as &(dyn ToSql + Sync)]).await?;
    let epoch =
        |row: &Row| Epoch { epoch: row.get(0), commitment: row.get(1), key: row.get(2), ends_at: row.get(3) };
    Ok(rows.iter().map(epoch).collect())
}
