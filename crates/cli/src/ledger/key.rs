//! The ledger's public key, from a JWK or in the form of signed notes.

use std::{fs, path::Path, process::ExitCode};

use anyhow::Context as _;
use countersign_ledger::note::{Checkpoint, LogKey};
use countersign_runtime::keys;
use serde_json::json;

use crate::{Connections, output};

/// The key in a file. A JWK has no name; it is taken under the one of the log that `note` is of, which the key has
/// signed with everything else.
pub(crate) fn read(path: &Path, note: &str) -> anyhow::Result<LogKey> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    if text.trim_start().starts_with('{') {
        return Ok(LogKey::new(&Checkpoint::read(note)?.origin, keys::verifying_key(path)?)?);
    }
    LogKey::parse(&text).with_context(|| format!("reading {}", path.display()))
}

pub(super) fn show(to: &Connections, path: &Path, origin: &str) -> anyhow::Result<ExitCode> {
    let key = LogKey::new(origin, keys::verifying_key(path)?)?;
    output::show(to, &json!({"key": key.to_string()}), || key.to_string())
}
