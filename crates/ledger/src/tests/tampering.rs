//! Any change to an entry, a tile or a checkpoint is detected, and the error names it.

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::{
    super::{
        LedgerError,
        note::{Checkpoint, LogKey},
        tile::{TileId, decode_entries, decode_hashes, encode_entries, encode_hashes},
        tree::{Path, leaf_hash, verify_consistency, verify_inclusion},
    },
    Log,
};

const ORIGIN: &str = "log.example/x";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn signed(log: &Log) -> String {
    let checkpoint =
        Checkpoint { origin: ORIGIN.into(), size: log.frontier.size(), root: log.frontier.root() };
    checkpoint.sign(&key()).unwrap()
}

fn open(note: &str) -> Result<Checkpoint, LedgerError> {
    Checkpoint::open(note, &LogKey::new(ORIGIN, key().verifying_key()).unwrap())
}

/// A way to change bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Delete(usize),
    Swap(usize, usize),
    Truncate(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        any::<usize>().prop_map(Change::Delete),
        (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Change::Swap(one, other)),
        any::<usize>().prop_map(Change::Truncate),
    ]
}

/// Applies a change; `None` where it changes nothing.
fn changed(bytes: &[u8], change: &Change) -> Option<Vec<u8>> {
    let mut new = bytes.to_vec();
    match *change {
        Change::Flip(at, bit) => new[at % bytes.len()] ^= 1 << bit,
        Change::Delete(at) => drop(new.remove(at % bytes.len())),
        Change::Swap(one, other) => new.swap(one % bytes.len(), other % bytes.len()),
        Change::Truncate(at) => new.truncate(at % bytes.len()),
    }
    (new != bytes).then_some(new)
}

proptest! {
    #[test]
    fn a_changed_entry_is_not_in_the_ledger(size in 1..600_u64, at in any::<u64>(), change in change()) {
        let log = Log::of(size);
        let (index, root) = (at % size, log.frontier.root());
        let proof = log.inclusion(index);
        let entry = &log.entries[index as usize];
        verify_inclusion(entry, index, size, &root, &proof).unwrap();
        let Some(wrong) = changed(entry, &change) else { return Ok(()) };
        prop_assert_eq!(
            verify_inclusion(&wrong, index, size, &root, &proof),
            Err(LedgerError::NotIncluded { index, size })
        );
    }

    #[test]
    fn a_changed_proof_index_or_size_proves_nothing(size in 2..600_u64, at in any::<u64>(), change in change()) {
        let log = Log::of(size);
        let (index, root) = (at % size, log.frontier.root());
        let (proof, entry) = (log.inclusion(index), &log.entries[index as usize]);
        if let Some(bytes) = changed(&proof.concat(), &change) {
            let (hashes, _) = bytes.as_chunks::<32>();
            if hashes.concat() != proof.concat() {
                prop_assert!(verify_inclusion(entry, index, size, &root, hashes).is_err());
            }
        }
        let elsewhere = (index + 1) % size;
        prop_assert!(verify_inclusion(entry, elsewhere, size, &root, &proof).is_err());
        prop_assert!(verify_inclusion(entry, index, size - 1, &root, &proof).is_err() || size - 1 == index + 1
            || log.inclusion(index).len() == Log::of(size - 1).inclusion(index).len());
    }

    #[test]
    fn a_changed_checkpoint_does_not_open(size in 0..600_u64, change in change()) {
        let note = signed(&Log::of(size));
        open(&note).unwrap();
        let Some(wrong) = changed(note.as_bytes(), &change) else { return Ok(()) };
        // Invalid text cannot be a note.
        let Ok(wrong) = String::from_utf8(wrong) else { return Ok(()) };
        prop_assert!(open(&wrong).is_err(), "{:?}", wrong);
    }

    #[test]
    fn a_changed_history_is_inconsistent_with_the_signed_checkpoint(
        old in 1..400_u64, more in 1..400_u64, at in any::<u64>(), change in change()
    ) {
        let (before, mut after) = (Log::of(old), Log::of(0));
        let index = at % old;
        let Some(wrong) = changed(&before.entries[index as usize], &change) else { return Ok(()) };
        for n in 0..old + more {
            after.push(if n == index { wrong.clone() } else { format!("entry {n}").into_bytes() });
        }
        let new = old + more;
        let proof = after.consistency(old);
        prop_assert_eq!(
            verify_consistency((old, &before.frontier.root()), (new, &after.frontier.root()), &proof),
            Err(LedgerError::Inconsistent { old, new })
        );
    }

    #[test]
    fn a_removed_or_swapped_entry_is_found_by_its_index(size in 2..300_u64, at in any::<u64>(), with in any::<u64>()) {
        let log = Log::of(size);
        let tile = TileId::of(0, (at % size) / 256, size);
        let hashes = &log.tiles[&(0, tile.index)];
        let first = 256 * tile.index as usize;
        let mut entries = log.entries[first..first + usize::from(tile.width)].to_vec();
        let (one, other) = (at as usize % entries.len(), with as usize % entries.len());
        let bundle = encode_entries(&entries).unwrap();
        prop_assert_eq!(decode_entries(&tile, &bundle).unwrap(), entries.clone());
        entries.swap(one, other);
        let wrong = entries.iter().zip(hashes).position(|(entry, hash)| leaf_hash(entry) != *hash);
        prop_assert_eq!(wrong, (one != other).then_some(one.min(other)));
        entries.remove(one);
        let missing = decode_entries(&tile, &encode_entries(&entries).unwrap());
        let named = matches!(&missing, Err(LedgerError::Tile { path, .. }) if *path == tile.entries_path());
        prop_assert!(named);
    }

    #[test]
    fn a_changed_tile_does_not_prove_what_it_proved(size in 3..700_u64, at in any::<u64>(), change in change()) {
        let log = Log::of(size);
        let (index, root) = (at % size, log.frontier.root());
        let path = Path::inclusion(size, index).unwrap();
        let mut tiles = log.tiles.clone();
        let used = path.tiles();
        let tile = used.iter().nth(at as usize % used.len()).unwrap();
        let bytes = encode_hashes(&tiles[&(tile.level, tile.index)]);
        let Some(wrong) = changed(&bytes, &change) else { return Ok(()) };
        match decode_hashes(tile, &wrong) {
            Err(LedgerError::Tile { path, .. }) => prop_assert_eq!(path, tile.path()),
            Err(other) => prop_assert!(false, "{other}"),
            Ok(hashes) => {
                tiles.insert((tile.level, tile.index), hashes);
                let proof = path.hashes(&tiles).unwrap();
                // The change may be in a part of the tile that the proof does not use.
                if proof != log.inclusion(index) {
                    let entry = &log.entries[index as usize];
                    prop_assert!(verify_inclusion(entry, index, size, &root, &proof).is_err());
                }
            }
        }
    }
}

#[test]
fn an_old_checkpoint_in_place_of_a_newer_one_is_named_as_replayed() {
    let (old, new) = (Log::of(10), Log::of(20));
    let (old, new) = (open(&signed(&old)).unwrap(), open(&signed(&new)).unwrap());
    let replayed = verify_consistency((new.size, &new.root), (old.size, &old.root), &[]);
    assert_eq!(replayed, Err(LedgerError::Replayed { got: 10, known: 20 }));
}

#[test]
fn a_checkpoint_of_another_log_or_with_another_key_is_refused() {
    let note = signed(&Log::of(3));
    let other = LogKey::new(ORIGIN, SigningKey::from_bytes(&[8; 32]).verifying_key()).unwrap();
    assert_eq!(Checkpoint::open(&note, &other), Err(LedgerError::Unsigned(ORIGIN.into())));
    let elsewhere = LogKey::new("log.example/y", key().verifying_key()).unwrap();
    assert!(matches!(Checkpoint::open(&note, &elsewhere), Err(LedgerError::Unsigned(_))));
}

#[test]
fn a_tile_has_only_one_valid_path() {
    let tile = TileId { level: 1, index: 1_234_067, width: 13 };
    assert_eq!(tile.path(), "tile/1/x001/x234/067.p/13");
    assert_eq!(tile.path().parse(), Ok(tile));
    for path in [
        "tile/1/1234067",
        "tile/0/x001/067.p/256",
        "tile/0/67",
        "tile/entries/000",
        "tile/0/x000/067",
        "tile/0/000.p/0",
        "tile/0/000.p/257",
        "tile/64/000",
        "tile/0/x009/x007/x199/x254/x740/993",
    ] {
        assert!(path.parse::<TileId>().is_err(), "{path}");
    }
}
