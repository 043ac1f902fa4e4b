//! Our log checked by other people's crates: `tlog_tiles` for its tiles, proofs and checkpoint, `signed_note` for its
//! signature.

use ed25519_dalek::SigningKey;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint as TheirCheckpoint, Error, Hash as TheirHash, Tile, TileHashReader, TileReader, check_record,
    check_tree, prove_record, prove_tree, record_hash,
};

use super::{
    super::{
        Hash,
        note::{Checkpoint, LogKey, cosigned},
        tile::{TileId, encode_hashes},
    },
    Log,
};

impl TileReader for Log {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let bytes = |tile: &Tile| {
            let id = TileId { level: tile.level(), index: tile.level_index(), width: tile.width() as u16 };
            // Theirs names the height as well, which tlog-tiles fixes at eight.
            assert_eq!(tile.path(), id.path().replacen("tile/", "tile/8/", 1));
            assert_eq!(id.path().parse::<TileId>().unwrap(), id);
            let hashes = self.tiles.get(&(id.level, id.index)).ok_or(Error::InvalidTile)?;
            Ok(encode_hashes(&hashes[..usize::from(id.width)]))
        };
        tiles.iter().map(bytes).collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

fn theirs(hashes: &[Hash]) -> Vec<TheirHash> {
    hashes.iter().map(|hash| TheirHash(*hash)).collect()
}

#[test]
fn another_crate_reads_our_tiles_and_gives_the_same_proofs() {
    for size in [1, 2, 255, 256, 257, 700, 70_000] {
        let log = Log::of(size);
        let root = TheirHash(log.frontier.root());
        let reader = TileHashReader::new(size, root, &log);
        for index in [0, size / 3, size - 1] {
            let proof = theirs(&log.inclusion(index));
            assert!(prove_record(size, index, &reader).unwrap() == proof);
            let leaf = record_hash(&log.entries[index as usize]);
            check_record(&proof, size, root, index, leaf).unwrap();
        }
        for old in [1, size / 2, size].into_iter().filter(|old| *old > 0) {
            let proof = theirs(&log.consistency(old));
            assert!(prove_tree(size, old, &reader).unwrap() == proof);
            check_tree(&proof, size, root, old, TheirHash(Log::of(old).frontier.root())).unwrap();
        }
    }
}

#[test]
fn another_crate_verifies_our_checkpoint_and_its_cosignature() {
    let (ours, witness) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
    let log = Log::of(300);
    let checkpoint = Checkpoint { origin: "log.example/x".into(), size: 300, root: log.frontier.root() };
    let note = checkpoint.sign(&ours).unwrap();
    // Others may sign the same text.
    let other = Checkpoint { origin: "witness.example".into(), ..checkpoint.clone() };
    let line = other.sign(&witness).unwrap().lines().last().unwrap().to_owned();
    let note = cosigned(&note, &line).unwrap();

    let key = LogKey::new("log.example/x", ours.verifying_key()).unwrap();
    assert_eq!(LogKey::parse(&key.to_string()).unwrap(), key);
    assert_eq!(Checkpoint::open(&note, &key).unwrap(), checkpoint);
    let verifier = StandardVerifier::new(&key.to_string()).unwrap();
    let theirs = Note::from_bytes(note.as_bytes()).unwrap();
    let (verified, unverified) = theirs.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 1));
    let read = TheirCheckpoint::from_bytes(theirs.text()).unwrap();
    assert_eq!((read.origin(), read.size(), read.hash().0), ("log.example/x", 300, checkpoint.root));
}
