//! What every Countersign process shares: settings, keys, the governed configuration, messages that more than
//! one of them sends, sweeps, telemetry, health and shutdown.

pub mod author;
pub mod governed;
pub mod keys;
pub mod messages;
pub mod process;
pub mod remediation;
pub mod settings;
pub mod submission;
pub mod sweep;
pub mod telemetry;

use countersign_broker::lane::Failure;
use countersign_store::StoreError;

/// What a lane does about an error of the database.
pub fn failure(error: StoreError) -> Failure {
    let message = error.to_string();
    if error.is_retryable() {
        Failure::Retry(message)
    } else if error.is_data() {
        Failure::Poison(message)
    } else {
        Failure::Reset(message)
    }
}
