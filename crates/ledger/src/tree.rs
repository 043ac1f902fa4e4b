//! The Merkle tree of RFC 6962 §2.1: hashes, the growing frontier, proofs and their verification.
//!
//! `ct-merkle` decides which nodes a proof consists of and whether one is valid. This module finds those nodes in a
//! tree that is kept in tiles of 256: complete nodes whose height is a multiple of eight.

use std::collections::{BTreeMap, BTreeSet};

use ct_merkle::{
    ConsistencyProof, InclusionProof, RootHash, indices_for_consistency_proof, indices_for_inclusion_proof,
};
use sha2::{Digest as _, Sha256};

pub use super::tile::TILE_WIDTH;
use super::{Hash, LedgerError, SIZE_MAX, tile::TileId};

/// SHA-256(0x00 ‖ entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree without leaves: SHA-256 of the empty string.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root of a perfect tree; `hashes` are a power of two of them.
fn perfect(hashes: &[Hash]) -> Hash {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| node_hash(&pair[0], &pair[pair.len() - 1])).collect();
    }
    level.first().copied().unwrap_or_else(empty_root)
}

/// A node that a full tile of the level below has made complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The tile level, from 1: the node covers 256^level leaves.
    pub level: u8,
    /// Its index among the nodes of its level.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

/// The right edge of a growing tree: for each tile level, the hashes of the last tile, which is not full yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeFrontier {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

/// How many hashes the last, partial tile of a level has.
fn partial(size: u64, level: u8) -> usize {
    ((size >> (8 * u32::from(level))) % TILE_WIDTH as u64) as usize
}

/// The number of tile levels that a tree of `size` leaves has hashes on.
pub fn levels(size: u64) -> u8 {
    (0..=6_u8).take_while(|level| size >> (8 * u32::from(*level)) > 0).count() as u8
}

impl TreeFrontier {
    /// The frontier of a tree of `size` leaves, from the hashes of its partial tiles, level by level.
    ///
    /// # Errors
    /// [`LedgerError::MissingTile`] where one does not have the width that `size` implies.
    pub fn restore(size: u64, levels: Vec<Vec<Hash>>) -> Result<Self, LedgerError> {
        for level in 0..self::levels(size).max(levels.len() as u8) {
            let have = levels.get(usize::from(level)).map_or(0, Vec::len);
            if have != partial(size, level) {
                let index = (size >> (8 * u32::from(level))) / TILE_WIDTH as u64;
                return Err(LedgerError::MissingTile(TileId { level, index, width: have as u16 }.path()));
            }
        }
        Ok(Self { size, levels })
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of a level's partial tile.
    pub fn level(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Appends a leaf. Returns the nodes above tiles that have become full.
    pub fn push(&mut self, leaf: Hash) -> Vec<Node> {
        self.size += 1;
        let (mut nodes, mut hash) = (Vec::new(), leaf);
        for level in 0.. {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Vec::with_capacity(TILE_WIDTH));
            }
            let tile = &mut self.levels[usize::from(level)];
            tile.push(hash);
            if tile.len() < TILE_WIDTH {
                break;
            }
            hash = perfect(tile);
            tile.clear();
            let above = level + 1;
            nodes.push(Node { level: above, index: (self.size >> (8 * u32::from(above))) - 1, hash });
        }
        nodes
    }

    /// The tree's root.
    pub fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for hashes in &self.levels {
            let mut rest = hashes.as_slice();
            while !rest.is_empty() {
                // The smallest perfect tree is on the far right.
                let width = 1 << rest.len().trailing_zeros();
                let (before, last) = rest.split_at(rest.len() - width);
                let last = perfect(last);
                root = Some(root.map_or(last, |right| node_hash(&last, &right)));
                rest = before;
            }
        }
        root.unwrap_or_else(empty_root)
    }
}

/// A complete node: `height` levels above the leaves, the `index`-th of its height.
type Complete = (u32, u64);

/// The complete nodes, from left to right, that make up the node that `ct-merkle` numbers `at` in a tree of `size` leaves.
fn complete(at: u64, size: u64) -> Vec<Complete> {
    let height = at.trailing_ones();
    let start = (at >> (height + 1)) << height;
    let end = start.saturating_add(1 << height).min(size);
    let (mut nodes, mut from) = (Vec::new(), start);
    while from < end {
        // `start` is aligned to a tree larger than whatever is left.
        let height = (end - from).ilog2();
        nodes.push((height, from >> height));
        from += 1 << height;
    }
    nodes
}

/// The tile that contains a complete node, and the range of its hashes that the node covers.
fn locate((height, index): Complete) -> ((u8, u64), usize, usize) {
    let (level, rows) = (height / 8, height % 8);
    let first = index << rows;
    let offset = (first % TILE_WIDTH as u64) as usize;
    ((level as u8, first / TILE_WIDTH as u64), offset, offset + (1 << rows))
}

/// Hashes of tiles, by level and index.
pub type Tiles = BTreeMap<(u8, u64), Vec<Hash>>;

/// A proof as the nodes that it consists of.
#[derive(Clone, Debug)]
pub struct Path {
    size: u64,
    nodes: Vec<u64>,
}

impl Path {
    /// The proof that entry `index` is in the tree of `size` leaves.
    pub fn inclusion(size: u64, index: u64) -> Result<Self, LedgerError> {
        if index >= size || size > SIZE_MAX {
            return Err(LedgerError::NoSuchEntry { index, size });
        }
        Ok(Self { size, nodes: indices_for_inclusion_proof(size, index) })
    }

    /// The proof that the tree of `new` leaves continues that of `old`.
    pub fn consistency(old: u64, new: u64) -> Result<Self, LedgerError> {
        if old > new || new > SIZE_MAX {
            return Err(LedgerError::Replayed { got: new, known: old });
        }
        let nodes = if old == 0 { Vec::new() } else { indices_for_consistency_proof(old, new - old) };
        Ok(Self { size: new, nodes })
    }

    /// The tiles that it needs.
    pub fn tiles(&self) -> BTreeSet<TileId> {
        let complete = self.nodes.iter().flat_map(|at| complete(*at, self.size));
        complete
            .map(|node| locate(node).0)
            .map(|(level, index)| TileId::of(level, index, self.size))
            .collect()
    }

    /// The hashes of the proof.
    ///
    /// # Errors
    /// [`LedgerError::MissingTile`] where `tiles` lacks one of [`Path::tiles`].
    pub fn hashes(&self, tiles: &Tiles) -> Result<Vec<Hash>, LedgerError> {
        self.nodes.iter().map(|at| self.hash(*at, tiles)).collect()
    }

    fn hash(&self, at: u64, tiles: &Tiles) -> Result<Hash, LedgerError> {
        let mut hash = None;
        for node in complete(at, self.size).into_iter().rev() {
            let (tile, from, to) = locate(node);
            let missing = || LedgerError::MissingTile(TileId::of(tile.0, tile.1, self.size).path());
            let left = perfect(tiles.get(&tile).and_then(|hashes| hashes.get(from..to)).ok_or_else(missing)?);
            hash = Some(hash.map_or(left, |right| node_hash(&left, &right)));
        }
        Ok(hash.unwrap_or_else(empty_root))
    }
}

fn root_of(root: &Hash, size: u64) -> RootHash<Sha256> {
    RootHash::new((*root).into(), size)
}

/// Checks that `entry` is the leaf `index` of the tree with this root.
pub fn verify_inclusion(
    entry: &[u8],
    index: u64,
    size: u64,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), LedgerError> {
    let wrong = LedgerError::NotIncluded { index, size };
    if index >= size || size > SIZE_MAX {
        return Err(wrong);
    }
    let proof = InclusionProof::<Sha256>::try_from_bytes(proof.concat()).map_err(|_| wrong.clone())?;
    root_of(root, size).verify_inclusion(&entry, index, &proof).map_err(|_| wrong)
}

/// Checks that the tree of `new` continues that of `old`: a pair of size and root each.
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> Result<(), LedgerError> {
    let wrong = LedgerError::Inconsistent { old: old.0, new: new.0 };
    if old.0 > new.0 || new.0 > SIZE_MAX {
        return Err(LedgerError::Replayed { got: new.0, known: old.0 });
    }
    if old.0 == 0 {
        // Every tree continues the empty one.
        return if proof.is_empty() && *old.1 == empty_root() { Ok(()) } else { Err(wrong) };
    }
    let proof = ConsistencyProof::<Sha256>::try_from_bytes(proof.concat()).map_err(|_| wrong.clone())?;
    root_of(new.1, new.0).verify_consistency(&root_of(old.1, old.0), &proof).map_err(|_| wrong)
}
