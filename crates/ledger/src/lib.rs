//! The ledger: an append-only log of evidence that shows tampering.
//!
//! Entries are the leaves of an RFC 6962 Merkle tree (`tree`). Its root, size and name are signed as a checkpoint, a C2SP
//! signed note (`note`). The log is laid out in C2SP tlog-tiles (`tile`), so that it can be served as static files and
//! checked with other people's tools. What one action's entries prove travels as a bundle (`bundle`).
//!
//! # Append, sign and prove
//!
//! ```
//! use countersign_ledger::note::{Checkpoint, LogKey};
//! use countersign_ledger::tree::{self, TreeFrontier, leaf_hash};
//! use ed25519_dalek::SigningKey;
//!
//! // The log keeps its right edge; that is enough to append.
//! let entries = ["the action was proposed", "it was approved", "it was executed"];
//! let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry.as_bytes())).collect();
//! let mut log = TreeFrontier::default();
//! for leaf in &leaves {
//!     log.push(*leaf);
//! }
//!
//! // The checkpoint commits to every entry and their order.
//! let key = SigningKey::from_bytes(&[7; 32]);
//! let checkpoint = Checkpoint { origin: "example.com/log".into(), size: log.size(), root: log.root() };
//! let note = checkpoint.sign(&key).expect("the name is valid");
//!
//! // A verifier has the log's public key, one entry, and the hashes beside its way to the root.
//! let public = LogKey::new("example.com/log", key.verifying_key()).expect("the name is valid");
//! let signed = Checkpoint::open(&note, &public).expect("the log signed it");
//! let proof = [leaves[0], leaves[2]];
//! tree::verify_inclusion(b"it was approved", 1, signed.size, &signed.root, &proof).expect("it is in the log");
//! assert!(tree::verify_inclusion(b"it was rejected", 1, signed.size, &signed.root, &proof).is_err());
//! ```
//!
//! Sources: RFC 6962 §2.1, <https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>,
//! <https://c2sp.org/tlog-tiles>.

pub mod bundle;
pub mod continuity;
pub mod entry;
pub mod event;
pub mod note;
pub mod tile;
pub mod tree;

#[cfg(test)]
mod tests;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The longest entry, in bytes: an entry bundle has 16 bits for its length.
pub const ENTRY_MAX: usize = 65_535;

/// The most entries of a ledger: JSON numbers are exact up to here.
pub const SIZE_MAX: u64 = 1 << 53;

/// Why a part of a ledger, or what claims to be one, is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// An entry is longer than [`ENTRY_MAX`].
    #[error("the entry has {0} bytes; the limit is {ENTRY_MAX}: record larger content by its digest")]
    EntryTooLarge(usize),
    /// A row of evidence cannot become an entry.
    #[error("the evidence {event} cannot be recorded: {why}")]
    Entry {
        /// Its event.
        event: uuid::Uuid,
        /// What is wrong with it.
        why: String,
    },
    /// Not a message of the audit stream.
    #[error("the events cannot be read: {0}")]
    Event(String),
    /// A part of a bundle is invalid.
    #[error("{part}: {why}")]
    Bundle {
        /// The part.
        part: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a signed note, or not one of a checkpoint.
    #[error("the checkpoint cannot be read: {0}")]
    Note(String),
    /// Not a key.
    #[error("the key cannot be read: {0}")]
    Key(String),
    /// The note is not signed with the key.
    #[error("the checkpoint is not signed by {0:?} with the key that was given")]
    Unsigned(String),
    /// The signature is not over this text.
    #[error("the checkpoint's signature by {0:?} is invalid: the checkpoint was changed after it was signed")]
    Forged(String),
    /// The tree has another entry at this index.
    #[error("entry {index} is not in the ledger of {size} entries that the checkpoint covers")]
    NotIncluded {
        /// Which entry.
        index: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// One tree does not continue the other.
    #[error(
        "the ledger of {new} entries does not continue the one of {old}: recorded entries have been changed"
    )]
    Inconsistent {
        /// The older size.
        old: u64,
        /// The newer size.
        new: u64,
    },
    /// A checkpoint is older than the one that it should continue.
    #[error("the checkpoint of {got} entries is older than a known one of {known}: it was replayed")]
    Replayed {
        /// The size of the checkpoint.
        got: u64,
        /// The size of the newer one.
        known: u64,
    },
    /// A tile that a proof needs is missing.
    #[error("the tile {0} is missing or has another width")]
    MissingTile(String),
    /// A tile's bytes or path are malformed.
    #[error("the tile {path} cannot be read: {reason}")]
    Tile {
        /// The tile's path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The index is beyond the end of the ledger.
    #[error("the ledger has {size} entries, so there is no entry {index}")]
    NoSuchEntry {
        /// The index.
        index: u64,
        /// How many there are.
        size: u64,
    },
}
