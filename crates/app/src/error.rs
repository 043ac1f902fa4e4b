//! Why a use case could not be carried out.

use countersign_broker::BrokerError;
use countersign_store::StoreError;

/// Why a use case could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The call or the configuration is wrong; nothing was attempted.
    #[error("{0}")]
    Usage(String),
    /// The database refused, or could not be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker refused, or could not be reached.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}
