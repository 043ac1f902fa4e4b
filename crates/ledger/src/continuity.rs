//! The proof that one checkpoint continues another: that nothing covered by the older one has changed since.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::{
    Hash, LedgerError,
    note::{Checkpoint, LogKey},
    tree::verify_consistency,
};

/// The `format` of a continuity proof.
pub const FORMAT: &str = "countersign-continuity/v1";

/// Two checkpoints and the consistency proof between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continuity {
    /// [`FORMAT`].
    pub format: String,
    /// The older signed note.
    pub old: String,
    /// The newer signed note.
    pub new: String,
    /// RFC 6962's consistency proof: hashes in base64.
    pub proof: Vec<String>,
}

impl Continuity {
    /// A proof between two signed notes.
    pub fn new(old: String, new: String, proof: &[Hash]) -> Self {
        Self {
            format: FORMAT.into(),
            old,
            new,
            proof: proof.iter().map(|hash| BASE64.encode(hash)).collect(),
        }
    }

    /// Checks both signatures and the proof. Returns both checkpoints.
    ///
    /// # Errors
    /// What is invalid; [`LedgerError::Replayed`] where `new` is older than `old`.
    pub fn check(&self, key: &LogKey) -> Result<(Checkpoint, Checkpoint), LedgerError> {
        let (old, new) = (Checkpoint::open(&self.old, key)?, Checkpoint::open(&self.new, key)?);
        let hash = |text: &String| BASE64.decode(text).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let proof: Option<Vec<Hash>> = self.proof.iter().map(hash).collect();
        let wrong = LedgerError::Inconsistent { old: old.size, new: new.size };
        verify_consistency((old.size, &old.root), (new.size, &new.root), &proof.ok_or(wrong)?)?;
        Ok((old, new))
    }
}
