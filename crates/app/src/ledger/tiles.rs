//! The folder's tiles, which a verification compares with the database.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use countersign_ledger::{
    Hash,
    tile::{TileId, decode_entries, decode_hashes},
    tree::TILE_WIDTH,
};

use crate::AppError;

/// A log's folder, as far as its checkpoint goes.
pub(super) struct Folder {
    path: PathBuf,
    /// The signed note.
    pub(super) note: String,
    /// How many entries its tiles have.
    pub(super) size: u64,
    /// Tiles that were compared.
    pub(super) compared: u64,
    /// The tile currently compared, by level.
    tiles: Vec<Option<(TileId, Vec<Hash>)>>,
    entries: Vec<Vec<u8>>,
}

impl Folder {
    /// The folder's checkpoint, unread; `size` is to be set when it has been opened. `None` where there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, AppError> {
        let file = path.join("checkpoint");
        let note = match fs::read_to_string(&file) {
            Ok(note) => note,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AppError::file("reading", file)(error)),
        };
        let (tiles, entries) = (vec![None; 8], vec![]);
        Ok(Some(Self { path: path.into(), note, size: 0, compared: 0, tiles, entries }))
    }

    /// Reads a tile's file. A partial tile is removed as soon as the full one exists.
    fn read(&self, id: &TileId, path: fn(&TileId) -> String) -> Result<(TileId, Vec<u8>), String> {
        let full = TileId { width: TILE_WIDTH as u16, ..*id };
        let read = |id: TileId| fs::read(self.path.join(path(&id))).map(|bytes| (id, bytes));
        read(*id)
            .or_else(|error| read(full).map_err(|_| error))
            .map_err(|error| format!("the file {} cannot be read: {error}", path(id)))
    }

    /// Compares a hash of a level with its tile. Hashes beyond the folder's checkpoint are skipped.
    ///
    /// # Errors
    /// A description of the difference.
    pub(super) fn hash(&mut self, level: u8, index: u64, hash: &Hash) -> Result<(), String> {
        let id = TileId::of(level, index / TILE_WIDTH as u64, self.size);
        let offset = (index % TILE_WIDTH as u64) as usize;
        if offset >= usize::from(id.width) {
            return Ok(());
        }
        let slot = usize::from(level);
        if self.tiles[slot].as_ref().is_none_or(|(loaded, _)| *loaded != id) {
            let (found, bytes) = self.read(&id, TileId::path)?;
            let mut hashes = decode_hashes(&found, &bytes).map_err(|error| error.to_string())?;
            hashes.truncate(usize::from(id.width));
            self.tiles[slot] = Some((id, hashes));
            self.compared += 1;
            if level == 0 {
                let (found, bytes) = self.read(&id, TileId::entries_path)?;
                self.entries = decode_entries(&found, &bytes).map_err(|error| error.to_string())?;
            }
        }
        let same = self.tiles[slot].as_ref().is_some_and(|(_, hashes)| hashes.get(offset) == Some(hash));
        if same {
            Ok(())
        } else {
            Err(format!("the tile {} has another hash in its place {offset}", id.path()))
        }
    }

    /// Compares an entry, after its hash, with its bundle.
    pub(super) fn entry(&self, index: u64, entry: &[u8]) -> Result<(), String> {
        let id = TileId::of(0, index / TILE_WIDTH as u64, self.size);
        let offset = (index % TILE_WIDTH as u64) as usize;
        if index >= self.size || self.entries.get(offset).is_some_and(|stored| stored == entry) {
            return Ok(());
        }
        Err(format!("the bundle {} has other bytes in its place {offset}", id.entries_path()))
    }
}
