//! The ledger's tree, notes and tiles: the RFC's vectors, other implementations, and tampering.

mod bundles;
mod golden;
mod independent;
mod others;
mod tampering;
mod vectors;

use std::collections::BTreeMap;

use super::{
    Hash,
    tile::TileId,
    tree::{Path, TILE_WIDTH, Tiles, TreeFrontier, leaf_hash},
};

/// A log in memory, kept in tiles as a folder has them.
pub(super) struct Log {
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) frontier: TreeFrontier,
    pub(super) tiles: Tiles,
}

impl Log {
    pub(super) fn of(size: u64) -> Self {
        let mut log = Self { entries: vec![], frontier: TreeFrontier::default(), tiles: BTreeMap::new() };
        (0..size).for_each(|n| log.push(format!("entry {n}").into_bytes()));
        log
    }

    pub(super) fn push(&mut self, entry: Vec<u8>) {
        let hash = leaf_hash(&entry);
        let at = self.entries.len() as u64;
        self.tiles.entry((0, at / TILE_WIDTH as u64)).or_default().push(hash);
        for node in self.frontier.push(hash) {
            self.tiles.entry((node.level, node.index / TILE_WIDTH as u64)).or_default().push(node.hash);
        }
        self.entries.push(entry);
    }

    pub(super) fn inclusion(&self, index: u64) -> Vec<Hash> {
        let path = Path::inclusion(self.frontier.size(), index).unwrap();
        path.hashes(&self.only(&path)).unwrap()
    }

    /// The proof that the tree continues that of size `old`.
    pub(super) fn consistency(&self, old: u64) -> Vec<Hash> {
        let path = Path::consistency(old, self.frontier.size()).unwrap();
        path.hashes(&self.only(&path)).unwrap()
    }

    /// The tiles that a proof needs, and no others.
    fn only(&self, path: &Path) -> Tiles {
        let tile = |id: TileId| {
            let hashes = self.tiles[&(id.level, id.index)].clone();
            assert_eq!(hashes.len(), usize::from(id.width));
            ((id.level, id.index), hashes)
        };
        path.tiles().into_iter().map(tile).collect()
    }
}
