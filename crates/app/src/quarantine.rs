//! The quarantine: messages that nobody could process.

use countersign_store::quarantine;
pub use countersign_store::quarantine::Entry;
use serde::Serialize;

use crate::{AppError, Connections};

/// A quarantined message with its bytes.
#[derive(Clone, Debug, Serialize)]
pub struct QuarantinedMessage {
    /// The bytes as text; what is not UTF-8 is replaced.
    pub body: String,
    /// Who sent it where, and why it is here.
    pub entry: Entry,
}

/// Lists at most `limit` quarantined messages, the newest first.
///
/// # Errors
/// Where the database cannot be read.
pub async fn list(connections: &Connections, limit: i64) -> Result<Vec<Entry>, AppError> {
    let tx = connections.store()?.transaction().await?;
    Ok(quarantine::list(&tx, limit).await?)
}

/// One quarantined message.
///
/// # Errors
/// Where there is no message with this number, or the database cannot be read.
pub async fn show(connections: &Connections, id: i64) -> Result<QuarantinedMessage, AppError> {
    let tx = connections.store()?.transaction().await?;
    let entry = quarantine::get(&tx, id).await?;
    let entry = entry.ok_or_else(|| AppError::NotFound(format!("there is no message {id}")))?;
    Ok(QuarantinedMessage { body: String::from_utf8_lossy(&entry.body).into_owned(), entry })
}
