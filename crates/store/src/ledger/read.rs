//! Reading the ledger: entries, hashes, checkpoints.

use chrono::{DateTime, Utc};
use countersign_core::ids::ActionId;
use countersign_ledger::{
    Hash,
    tile::TileId,
    tree::{TILE_WIDTH, Tiles, TreeFrontier, levels},
};
use tokio_postgres::Row;

use super::{Signed, number, stored};
use crate::{StoreError, Transaction};

/// The number of entries.
pub async fn size(tx: &Transaction) -> Result<u64, StoreError> {
    Ok(number(tx.query_one("SELECT size FROM recorder", &[]).await?.get(0)))
}

/// An entry and its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its index.
    pub index: u64,
    /// Canonical JSON.
    pub entry: Vec<u8>,
}

fn entry(row: &Row) -> Entry {
    Entry { index: number(row.get(0)), entry: row.get(1) }
}

/// Up to `limit` entries from index `from` on, in order.
pub async fn entries(tx: &Transaction, from: u64, limit: i64) -> Result<Vec<Entry>, StoreError> {
    let sql = "SELECT index, entry FROM ledger WHERE index >= $1 ORDER BY index LIMIT $2";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&stored(from), &limit]).await?;
    Ok(rows.iter().map(entry).collect())
}

/// All entries of an action below index `size`.
pub async fn of_action(tx: &Transaction, action: ActionId, size: u64) -> Result<Vec<Entry>, StoreError> {
    let sql = "SELECT index, entry FROM ledger WHERE action = $1 AND index < $2 ORDER BY index";
    Ok(tx.query(sql, &[&action.0, &stored(size)]).await?.iter().map(entry).collect())
}

/// The entries below index `size` about epochs that have opened or closed.
pub async fn of_epoch(tx: &Transaction, epoch: i64, size: u64) -> Result<Vec<Entry>, StoreError> {
    let sql = "SELECT l.index, l.entry FROM evidence e JOIN ledger l ON l.evidence = e.id
               WHERE e.kind IN ('epoch.opened', 'epoch.closed') AND e.body ->> 'epoch' = $1::text AND l.index < $2
               ORDER BY l.index";
    Ok(tx.query(sql, &[&epoch.to_string(), &stored(size)]).await?.iter().map(entry).collect())
}

fn hashes(rows: &[Row]) -> Result<Vec<Hash>, StoreError> {
    let hash = |row: &Row| {
        let bytes: &[u8] = row.get(0);
        bytes
            .try_into()
            .map_err(|_| StoreError::Corrupt("a hash of the ledger does not have 32 bytes".into()))
    };
    rows.iter().map(hash).collect()
}

/// The hashes of a tile.
pub async fn tile(tx: &Transaction, tile: &TileId) -> Result<Vec<Hash>, StoreError> {
    let from = tile.index.saturating_mul(TILE_WIDTH as u64);
    let to = from + u64::from(tile.width);
    let rows = if tile.level == 0 {
        let sql = "SELECT leaf FROM ledger WHERE index >= $1 AND index < $2 ORDER BY index";
        tx.query(&tx.prepare_cached(sql).await?, &[&stored(from), &stored(to)]).await?
    } else {
        let sql =
            "SELECT hash FROM ledger_nodes WHERE level = $1 AND index >= $2 AND index < $3 ORDER BY index";
        let level = i16::from(tile.level);
        tx.query(&tx.prepare_cached(sql).await?, &[&level, &stored(from), &stored(to)]).await?
    };
    hashes(&rows)
}

/// The frontier of the tree of `size` entries.
pub async fn frontier(tx: &Transaction, size: u64) -> Result<TreeFrontier, StoreError> {
    let mut edge = Vec::new();
    for level in 0..levels(size) {
        let hashes = size >> (8 * u32::from(level));
        let id =
            TileId { level, index: hashes / TILE_WIDTH as u64, width: (hashes % TILE_WIDTH as u64) as u16 };
        edge.push(tile(tx, &id).await?);
    }
    TreeFrontier::restore(size, edge)
        .map_err(|error| StoreError::Corrupt(format!("the ledger has a gap: {error}")))
}

/// The tiles that a proof needs.
pub async fn tiles(tx: &Transaction, wanted: impl IntoIterator<Item = TileId>) -> Result<Tiles, StoreError> {
    let mut tiles = Tiles::new();
    for id in wanted {
        tiles.insert((id.level, id.index), tile(tx, &id).await?);
    }
    Ok(tiles)
}

fn signed(row: &Row) -> Result<Signed, StoreError> {
    let size = number(row.get(0));
    let root = row.get::<_, &[u8]>(1).try_into();
    let root =
        root.map_err(|_| StoreError::Corrupt(format!("the root of checkpoint {size} is not a hash")))?;
    Ok(Signed { size, root, note: row.get(2), signed_at: row.get(3) })
}

/// The newest checkpoint of at most `size` entries.
pub async fn checkpoint(tx: &Transaction, size: u64) -> Result<Option<Signed>, StoreError> {
    let sql =
        "SELECT size, root, note, signed_at FROM checkpoints WHERE size <= $1 ORDER BY size DESC LIMIT 1";
    tx.query_opt(sql, &[&stored(size)]).await?.as_ref().map(signed).transpose()
}

/// Up to `limit` checkpoints of more than `size` entries, in order.
pub async fn checkpoints(tx: &Transaction, size: u64, limit: i64) -> Result<Vec<Signed>, StoreError> {
    let sql = "SELECT size, root, note, signed_at FROM checkpoints WHERE size > $1 ORDER BY size LIMIT $2";
    tx.query(&tx.prepare_cached(sql).await?, &[&stored(size), &limit]).await?.iter().map(signed).collect()
}

/// The time before which nothing more will be recorded: just after the newest batch. A batch bears the time of its
/// draft and is visible only when it is appended, so the time since then is not complete yet. `None` if the ledger is
/// empty.
pub async fn complete_until(tx: &Transaction) -> Result<Option<DateTime<Utc>>, StoreError> {
    let sql = "SELECT max(signed_at) + interval '1 microsecond' FROM checkpoints";
    Ok(tx.query_one(sql, &[]).await?.get(0))
}

/// How many entries were recorded before a time.
pub async fn recorded_before(tx: &Transaction, at: DateTime<Utc>) -> Result<u64, StoreError> {
    let sql = "SELECT coalesce(max(size), 0) FROM checkpoints WHERE signed_at < $1";
    Ok(number(tx.query_one(sql, &[&at]).await?.get(0)))
}
