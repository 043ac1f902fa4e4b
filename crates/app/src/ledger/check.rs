//! Checks a bundle or a proof of continuity, offline.

use std::{fs, path::Path};

pub use countersign_ledger::bundle::Checked as CheckedBundle;
use countersign_ledger::{
    bundle::Bundle,
    continuity::{self, Continuity},
};
use serde::{Deserialize, Serialize};

use super::key;
use crate::AppError;

/// The member that distinguishes the two kinds of files.
#[derive(Deserialize)]
struct Format {
    format: String,
}

/// What a valid file proves.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Checked {
    /// One ledger continues another.
    Continuity(CheckedContinuity),
    /// An action's entries are in a ledger.
    Bundle(CheckedBundle),
}

/// Two checkpoints of one ledger.
#[derive(Clone, Debug, Serialize)]
pub struct CheckedContinuity {
    /// How many entries the newer one covers.
    pub new: u64,
    /// How many entries the older one covers.
    pub old: u64,
    /// The log's name.
    pub origin: String,
}

/// Checks what [`prove`](super::prove) has made, with the ledger's public key.
///
/// # Errors
/// Where a file cannot be read, or does not hold what it claims.
pub fn check(file: &Path, key: &Path) -> Result<Checked, AppError> {
    let bytes = fs::read(file).map_err(AppError::file("reading", file))?;
    let name = file.display();
    let fails = || format!("{name} does not hold");
    let Format { format } =
        serde_json::from_slice(&bytes).map_err(AppError::invalid(format!("{name} is not a bundle")))?;
    if format == continuity::FORMAT {
        let proof: Continuity =
            serde_json::from_slice(&bytes).map_err(AppError::invalid(format!("{name} is not a proof")))?;
        let (old, new) = proof.check(&key::read(key, &proof.new)?).map_err(AppError::invalid(fails()))?;
        let checked = CheckedContinuity { new: new.size, old: old.size, origin: new.origin };
        return Ok(Checked::Continuity(checked));
    }
    let bundle = Bundle::read(&bytes)?;
    let checked = bundle.check(&key::read(key, &bundle.checkpoint)?).map_err(AppError::invalid(fails()))?;
    Ok(Checked::Bundle(checked))
}
