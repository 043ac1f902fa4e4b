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

/// The longest entry, in bytes: its length must fit the 16 bits that an entry bundle has for it.
pub const ENTRY_MAX: usize = 65_535;

/// The most entries that a ledger is taken to have: what a JSON number carries exactly.
pub const SIZE_MAX: u64 = 1 << 53;

/// What is wrong with a part of a ledger, or with what is said to be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// An entry that no bundle of entries can hold.
    #[error("an entry has at most {ENTRY_MAX} bytes, this one has {0}; keep larger content by its digest")]
    EntryTooLarge(usize),
    /// A row of evidence that cannot become an entry.
    #[error("the evidence {event} cannot be recorded: {why}")]
    Entry {
        /// Its event.
        event: uuid::Uuid,
        /// Why.
        why: String,
    },
    /// Not a message of the audit stream.
    #[error("the events cannot be read: {0}")]
    Event(String),
    /// A part of a bundle does not hold.
    #[error("{part}: {why}")]
    Bundle {
        /// Which.
        part: String,
        /// Why.
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
    #[error("the checkpoint's signature by {0:?} does not hold: it was changed after it was signed")]
    Forged(String),
    /// The entry is not what the tree has at its place.
    #[error("entry {index} is not in the ledger of {size} entries that the checkpoint is of")]
    NotIncluded {
        /// Which entry.
        index: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// One tree does not continue the other.
    #[error(
        "the ledger of {new} entries does not continue the one of {old}: what was recorded has been changed"
    )]
    Inconsistent {
        /// The older size.
        old: u64,
        /// The newer size.
        new: u64,
    },
    /// Later than what it is to continue.
    #[error("the checkpoint of {got} entries is older than one of {known} that is known: it is replayed")]
    Replayed {
        /// The size that came.
        got: u64,
        /// The size that is known.
        known: u64,
    },
    /// A tile that a proof needs.
    #[error("the tile {0} is missing or has another width")]
    MissingTile(String),
    /// A tile's bytes are no tile.
    #[error("the tile {path} cannot be read: {reason}")]
    Tile {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// An index that the ledger does not have.
    #[error("the ledger has {size} entries, so there is no entry {index}")]
    NoSuchEntry {
        /// Which.
        index: u64,
        /// How many there are.
        size: u64,
    },
}
