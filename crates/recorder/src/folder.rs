//! The log as static files, in the layout of C2SP tlog-tiles: written after the ledger, and again where they are missing.
//!
//! Disk I/O blocks the current thread (`block_in_place`); other tasks move to other threads.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use countersign_broker::crash;
use countersign_ledger::{
    Hash,
    note::Checkpoint,
    tile::{TileId, encode_entries, encode_hashes},
    tree::{TILE_WIDTH, leaf_hash, levels},
};
use countersign_store::ledger::{Signed, read};
use tokio::{sync::watch, task::block_in_place};

use crate::{entry_cache::EntryCache, error::RecorderError, shared::Recorder};

/// The file of the newest checkpoint.
const CHECKPOINT: &str = "checkpoint";

/// The folder for unfinished files: one file per recorder.
const UNFINISHED: &str = ".unfinished";

/// A log's folder.
pub(crate) struct Folder {
    recorder: Recorder,
    cache: EntryCache,
    path: PathBuf,
    /// Its checkpoint as it was last seen.
    note: Option<String>,
    /// How many entries the written tiles cover.
    written: u64,
}

impl Folder {
    /// Opens the folder and reads its checkpoint.
    ///
    /// # Errors
    /// [`RecorderError::Forked`] where its checkpoint is not one that the database continues.
    pub(crate) async fn open(recorder: &Recorder, cache: EntryCache) -> Result<Self, RecorderError> {
        let path = recorder.process.settings.ledger.folder.clone();
        // Left behind by recorders that crashed. One that still runs without its lease loses its file and tries again.
        let _ = block_in_place(|| fs::remove_dir_all(path.join(UNFINISHED)));
        let mut folder = Self { recorder: recorder.clone(), cache, path, note: None, written: 0 };
        match folder.read_checkpoint().await {
            Err(forked @ RecorderError::Forked(_)) => return Err(forked),
            // Read again when it is written to.
            Err(error) => {
                tracing::warn!(%error, folder = %folder.path.display(), "the folder cannot be read")
            }
            Ok(()) => {}
        }
        Ok(folder)
    }

    /// Reads the checkpoint if it has changed: a recorder that lost its lease between tiles and checkpoint may have set
    /// it back.
    async fn read_checkpoint(&mut self) -> Result<(), RecorderError> {
        let file = self.path.join(CHECKPOINT);
        let note = match block_in_place(|| fs::read_to_string(&file)) {
            Ok(note) => Some(note),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(RecorderError::File { path: file, source }),
        };
        if note == self.note {
            return Ok(());
        }
        self.written = match &note {
            Some(note) => {
                let published = Checkpoint::open(note, &self.recorder.log_key()?)?;
                let size = published.size;
                let stored = self.recorder.reading(async |tx| read::checkpoint(tx, size).await).await?;
                if stored.is_none_or(|stored| (stored.size, stored.root) != (size, published.root)) {
                    let why =
                        format!("{} covers {size} entries that the database does not have", file.display());
                    return Err(RecorderError::Forked(why));
                }
                size
            }
            None => 0,
        };
        self.note = note;
        Ok(())
    }

    /// Follows the ledger. Retries a folder that cannot be written, while the ledger goes on.
    pub(crate) async fn follow(mut self, mut known: watch::Receiver<u64>) -> RecorderError {
        loop {
            let size = *known.borrow_and_update();
            if let Err(error) = self.follow_to(size).await {
                if matches!(error, RecorderError::Forked(_)) {
                    return error;
                }
                tracing::warn!(%error, folder = %self.path.display(), "tiles not written yet");
                self.recorder.pause().await;
                continue;
            }
            if known.changed().await.is_err() {
                return RecorderError::Lost;
            }
        }
    }

    async fn follow_to(&mut self, size: u64) -> Result<(), RecorderError> {
        self.read_checkpoint().await?;
        if size > self.written { self.catch_up().await } else { Ok(()) }
    }

    /// Writes all tiles up to the newest checkpoint, then the checkpoint: whoever reads it finds every tile.
    async fn catch_up(&mut self) -> Result<(), RecorderError> {
        let newest = self.recorder.reading(async |tx| read::checkpoint(tx, u64::MAX >> 1).await).await?;
        let Some(Signed { size, note, .. }) = newest.filter(|newest| newest.size > self.written) else {
            return Ok(());
        };
        for level in 0..levels(size) {
            let shift = 8 * u32::from(level);
            let from = (self.written >> shift) / TILE_WIDTH as u64;
            for index in from..=(size >> shift) / TILE_WIDTH as u64 {
                self.tile(TileId::of(level, index, size)).await?;
            }
        }
        crash::point("folder", "tiles");
        self.write(CHECKPOINT, note.as_bytes())?;
        crash::point("folder", "checkpoint");
        (self.note, self.written) = (Some(note), size);
        Ok(())
    }

    async fn tile(&self, tile: TileId) -> Result<(), RecorderError> {
        if tile.width == 0 {
            return Ok(());
        }
        if tile.level == 0 {
            let (from, count) = (tile.index * TILE_WIDTH as u64, usize::from(tile.width));
            let mut entries = self.cache.get(from, count);
            let mut hashes: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
            if entries.len() < count {
                entries = self.recorder.entries(from, count).await?;
                hashes = self.hashes(&tile).await?;
            }
            self.write(&tile.path(), &encode_hashes(&hashes))?;
            self.write(&tile.entries_path(), &encode_entries(&entries)?)?;
        } else {
            self.write(&tile.path(), &encode_hashes(&self.hashes(&tile).await?))?;
        }
        if usize::from(tile.width) == TILE_WIDTH {
            for full in [tile.path(), tile.entries_path()] {
                self.remove_partial(&format!("{full}.p"));
            }
        }
        Ok(())
    }

    async fn hashes(&self, tile: &TileId) -> Result<Vec<Hash>, RecorderError> {
        self.recorder.reading(async |tx| read::tile(tx, tile).await).await
    }

    /// Deletes partial tiles, which the full one replaces. A leftover one does no harm.
    fn remove_partial(&self, folder: &str) {
        let _ = block_in_place(|| fs::remove_dir_all(self.path.join(folder)));
    }

    /// Writes another file and renames it, so that nobody reads half a file.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RecorderError> {
        let path = self.path.join(name);
        // One per recorder: one that lost its lease may still be writing.
        let dir = self.path.join(UNFINISHED);
        let unfinished = dir.join(&*self.recorder.holder);
        let replace = |path: &Path| {
            fs::create_dir_all(&dir)?;
            path.parent().map(fs::create_dir_all).transpose()?;
            let mut file = fs::File::create(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::rename(&unfinished, path)
        };
        // Blocking, so that it finishes even if the task is aborted.
        block_in_place(|| replace(&path)).map_err(|source| RecorderError::File { path, source })
    }
}
