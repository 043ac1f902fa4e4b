//! The layout of C2SP tlog-tiles: names of tiles, tiles of hashes, bundles of entries.

use std::str::FromStr;

use super::{ENTRY_MAX, Hash, LedgerError, SIZE_MAX};

/// Hashes in a full tile.
pub const TILE_WIDTH: usize = 256;

/// A tile of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// 0 for hashes of entries; on a higher level, each hash is that of a full tile of the level below.
    pub level: u8,
    /// Its index within its level.
    pub index: u64,
    /// How many hashes it has, 1 to 256.
    pub width: u16,
}

/// The highest level that a path may name, according to C2SP.
const LEVEL_MAX: u8 = 63;

/// `1234067` as `x001/x234/067`.
fn number(index: u64) -> String {
    let mut text = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1_000);
        rest /= 1_000;
    }
    text
}

fn partial(width: u16) -> String {
    if usize::from(width) == TILE_WIDTH { String::new() } else { format!(".p/{width}") }
}

impl TileId {
    /// A tile of the tree of `size` leaves. Its width is 0 if the tree does not reach it.
    pub fn of(level: u8, index: u64, size: u64) -> Self {
        let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or_default();
        let width = hashes.saturating_sub(index.saturating_mul(TILE_WIDTH as u64)).min(TILE_WIDTH as u64);
        Self { level, index, width: width as u16 }
    }

    /// Its path below the log's folder.
    pub fn path(&self) -> String {
        format!("tile/{}/{}{}", self.level, number(self.index), partial(self.width))
    }

    /// The path of the bundle with the entries of a tile of level 0.
    pub fn entries_path(&self) -> String {
        format!("tile/entries/{}{}", number(self.index), partial(self.width))
    }
}

impl FromStr for TileId {
    type Err = LedgerError;

    fn from_str(path: &str) -> Result<Self, LedgerError> {
        let wrong =
            || LedgerError::Tile { path: path.into(), reason: "this is not the path of a tile".into() };
        let rest = path.strip_prefix("tile/").ok_or_else(wrong)?;
        let (level, rest) = rest.split_once('/').ok_or_else(wrong)?;
        let (digits, width) = match rest.split_once(".p/") {
            Some((digits, width)) => (digits, width.parse().map_err(|_| wrong())?),
            None => (rest, TILE_WIDTH as u16),
        };
        let index = digits.replace(['x', '/'], "").parse().map_err(|_| wrong())?;
        let tile = Self { level: level.parse().map_err(|_| wrong())?, index, width };
        let possible = index <= SIZE_MAX
            && tile.level <= LEVEL_MAX
            && (1..=TILE_WIDTH).contains(&usize::from(tile.width));
        // Only one spelling is valid.
        if possible && tile.path() == path { Ok(tile) } else { Err(wrong()) }
    }
}

/// A tile's hashes as the bytes of its file.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// A tile's file as hashes.
pub fn decode_hashes(tile: &TileId, bytes: &[u8]) -> Result<Vec<Hash>, LedgerError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if hashes.len() != usize::from(tile.width) || !rest.is_empty() {
        let reason = format!("it has {} bytes instead of {}", bytes.len(), 32 * usize::from(tile.width));
        return Err(LedgerError::Tile { path: tile.path(), reason });
    }
    Ok(hashes.to_vec())
}

/// Entries as the bytes of a bundle: each after its length in 16 bits, big endian.
pub fn encode_entries<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, LedgerError> {
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| 2 + entry.as_ref().len()).sum());
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).map_err(|_| LedgerError::EntryTooLarge(entry.len()))?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    Ok(bytes)
}

/// A bundle's entries: exactly as many as its tile has hashes.
pub fn decode_entries(tile: &TileId, bytes: &[u8]) -> Result<Vec<Vec<u8>>, LedgerError> {
    let wrong = |reason: String| LedgerError::Tile { path: tile.entries_path(), reason };
    let (mut entries, mut rest) = (Vec::with_capacity(usize::from(tile.width)), bytes);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(ENTRY_MAX);
        let (entry, after) = after
            .split_at_checked(length)
            .ok_or_else(|| wrong(format!("entry {} is cut short", entries.len())))?;
        entries.push(entry.to_vec());
        rest = after;
    }
    if !rest.is_empty() || entries.len() != usize::from(tile.width) {
        return Err(wrong(format!("it has {} entries instead of {}", entries.len(), tile.width)));
    }
    Ok(entries)
}
