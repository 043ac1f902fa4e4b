//! Why a use case could not be carried out.

use std::{error::Error, io, path::PathBuf};

use countersign_broker::BrokerError;
use countersign_ledger::LedgerError;
use countersign_runtime::keys::KeyError;
use countersign_store::StoreError;

/// Why a use case could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The call or the configuration is wrong; nothing was attempted.
    #[error("{0}")]
    Usage(String),
    /// Nothing has the requested name or id.
    #[error("{0}")]
    NotFound(String),
    /// Several actions match the requested name.
    #[error("{name:?} is ambiguous; write one of {}", matches.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The matching actions, as `source#id`.
        matches: Vec<String>,
    },
    /// The request is in order, but the system is not in a state to carry it out.
    #[error("{0}")]
    State(String),
    /// What is stored or published contradicts itself.
    #[error("{0}")]
    Corrupt(String),
    /// A file cannot be read or written.
    #[error("{doing} {}", path.display())]
    File {
        /// What was attempted, such as `reading`.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A text is malformed, or its claim does not verify.
    #[error("{what}")]
    Invalid {
        /// What is wrong with which text.
        what: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The output cannot be written.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
    /// A proof or a checkpoint does not hold.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database refused, or could not be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker refused, or could not be reached.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl AppError {
    /// For `map_err`: what was attempted on a file.
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    /// For `map_err`: what is wrong with which text.
    pub(crate) fn invalid<E: Error + Send + Sync + 'static>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Invalid { what, source: source.into() }
    }
}
