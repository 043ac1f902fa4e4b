//! The ledger's public key, from a JWK or in the form of signed notes.

use std::{fs, path::Path};

use countersign_ledger::note::{Checkpoint, LogKey};
use countersign_runtime::keys;
use serde::Serialize;

use crate::AppError;

/// The ledger's public key in the form of signed notes, as other tools for transparency logs take it.
#[derive(Clone, Debug, Serialize)]
pub struct PublicKey {
    /// `<origin>+<key id>+<key>`.
    pub key: String,
}

/// The public key of the JWK in a file, under the log's name `origin`.
///
/// # Errors
/// Where the file holds no public key, or `origin` cannot be a log's name.
pub fn public(path: &Path, origin: &str) -> Result<PublicKey, AppError> {
    Ok(PublicKey { key: LogKey::new(origin, keys::verifying_key(path)?)?.to_string() })
}

/// The key in a file. A JWK has no name; it takes the one of the log that `note` is of, which the key has signed with
/// everything else.
pub(super) fn read(path: &Path, note: &str) -> Result<LogKey, AppError> {
    let text = fs::read_to_string(path).map_err(AppError::file("reading", path))?;
    if text.trim_start().starts_with('{') {
        return Ok(LogKey::new(&Checkpoint::read(note)?.origin, keys::verifying_key(path)?)?);
    }
    LogKey::parse(&text).map_err(AppError::invalid(format!("reading {}", path.display())))
}
