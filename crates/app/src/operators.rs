//! Authorisation of operators.

use countersign_policy::Configuration;
use countersign_store::Store;

use crate::{AppError, configuration::active};

/// Checks that the active directory has this operator. Returns the active configuration.
///
/// # Errors
/// If it does not, if no configuration is active yet, or the database cannot be read.
pub(crate) async fn authorise(store: &Store, operator: &str) -> Result<Configuration, AppError> {
    let active = active(store).await?;
    match active.directory.operator(operator) {
        Some(_) => Ok(active),
        None => Err(AppError::State(format!("{operator:?} is not an operator of the active directory"))),
    }
}
