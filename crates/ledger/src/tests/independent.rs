//! Roots and proofs compared with a literal implementation of the formulas of RFC 6962 §2.1.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::{
    super::{
        Hash,
        tree::{TreeFrontier, verify_consistency, verify_inclusion},
    },
    Log,
};

/// MTH, PATH and PROOF over ranges of leaves.
struct Formulas {
    leaves: Vec<Hash>,
    known: HashMap<(usize, usize), Hash>,
}

impl Formulas {
    fn new(entries: &[Vec<u8>]) -> Self {
        let leaf = |entry: &Vec<u8>| Sha256::digest([&[0], entry.as_slice()].concat()).into();
        Self { leaves: entries.iter().map(leaf).collect(), known: HashMap::new() }
    }

    /// The largest power of two smaller than n.
    fn k(n: usize) -> usize {
        n.next_power_of_two() / 2
    }

    fn mth(&mut self, from: usize, to: usize) -> Hash {
        match to - from {
            0 => return Sha256::digest([]).into(),
            1 => return self.leaves[from],
            _ => {}
        }
        if let Some(known) = self.known.get(&(from, to)) {
            return *known;
        }
        let middle = from + Self::k(to - from);
        let (left, right) = (self.mth(from, middle), self.mth(middle, to));
        let hash = Sha256::digest([&[1], left.as_slice(), right.as_slice()].concat()).into();
        self.known.insert((from, to), hash);
        hash
    }

    fn path(&mut self, m: usize, from: usize, to: usize) -> Vec<Hash> {
        if to - from == 1 {
            return vec![];
        }
        let middle = from + Self::k(to - from);
        let (mut path, sibling) = match from + m < middle {
            true => (self.path(m, from, middle), self.mth(middle, to)),
            false => (self.path(m - (middle - from), middle, to), self.mth(from, middle)),
        };
        path.push(sibling);
        path
    }

    fn proof(&mut self, m: usize, from: usize, to: usize, whole: bool) -> Vec<Hash> {
        if m == to - from {
            return if whole { vec![] } else { vec![self.mth(from, to)] };
        }
        let middle = from + Self::k(to - from);
        let (mut proof, other) = match m <= middle - from {
            true => (self.proof(m, from, middle, whole), self.mth(middle, to)),
            false => (self.proof(m - (middle - from), middle, to, false), self.mth(from, middle)),
        };
        proof.push(other);
        proof
    }
}

/// All indexes of small trees; of larger ones, the edges of tiles and of the tree, and every 64th index, shifted with
/// the size.
fn indexes(size: usize) -> Vec<usize> {
    let edge = |n: &usize| [0, 1, 255, 256, 257, 511, 512, 768, size - 1].contains(n);
    (0..size).filter(|n| size <= 66 || edge(n) || n % 64 == size % 64).collect()
}

#[test]
fn roots_and_proofs_of_0_to_1000_leaves_match_the_formulas() {
    let mut log = Log::of(0);
    let mut formulas =
        Formulas::new(&(0..1_000).map(|n| format!("entry {n}").into_bytes()).collect::<Vec<_>>());
    for size in 0..=1_000_usize {
        let root = log.frontier.root();
        assert_eq!(root, formulas.mth(0, size), "{size}");
        for index in indexes(size) {
            let proof = log.inclusion(index as u64);
            assert_eq!(proof, formulas.path(index, 0, size), "{index} of {size}");
            verify_inclusion(&log.entries[index], index as u64, size as u64, &root, &proof).unwrap();
        }
        for old in indexes(size).into_iter().skip(1).chain([size]).filter(|old| *old > 0) {
            let proof = log.consistency(old as u64);
            assert_eq!(proof, formulas.proof(old, 0, size, true), "{old} of {size}");
            verify_consistency((old as u64, &formulas.mth(0, old)), (size as u64, &root), &proof).unwrap();
        }
        let levels = (0..3).map(|level| log.frontier.level(level).to_vec()).collect();
        assert_eq!(TreeFrontier::restore(size as u64, levels).unwrap().root(), root);
        log.push(format!("entry {size}").into_bytes());
    }
}

#[test]
fn a_tree_of_seventy_thousand_leaves_proves_across_three_levels_of_tiles() {
    let log = Log::of(70_000);
    let root = log.frontier.root();
    for index in [0, 1, 255, 256, 65_279, 65_535, 65_536, 69_888, 69_999] {
        let proof = log.inclusion(index);
        verify_inclusion(&log.entries[index as usize], index, 70_000, &root, &proof).unwrap();
    }
    for old in [1, 256, 300, 65_536, 65_537, 69_999] {
        let before = Log::of(old).frontier.root();
        verify_consistency((old, &before), (70_000, &root), &log.consistency(old)).unwrap();
    }
}
