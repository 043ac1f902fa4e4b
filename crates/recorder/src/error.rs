use std::path::PathBuf;

use countersign_broker::BrokerError;
use countersign_ledger::LedgerError;
use countersign_store::StoreError;

/// Why a recorder cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// Another has taken over.
    #[error("another recorder has taken over")]
    Lost,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// What is stored is no ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The folder.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was published before is not what the database has: to go on would be to sign two histories.
    #[error(
        "{0}; the database was set back or changed: restore it, or keep this ledger and begin another one elsewhere"
    )]
    Forked(String),
}
