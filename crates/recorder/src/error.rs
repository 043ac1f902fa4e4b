use std::path::PathBuf;

use countersign_broker::BrokerError;
use countersign_ledger::LedgerError;
use countersign_store::StoreError;

/// Why a recorder cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// Another recorder has taken over the lease.
    #[error("another recorder has taken over")]
    Lost,
    /// A failure of the database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A failure of the broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The stored ledger is inconsistent.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A file of the log's folder cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The published log is not a prefix of the database's: going on would sign two histories.
    #[error(
        "{0}; the database was rolled back or changed: restore it, or keep this ledger and start another one elsewhere"
    )]
    Forked(String),
}
