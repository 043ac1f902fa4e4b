//! Authorisation of operators.

use countersign_store::Store;

use crate::{AppError, configuration::active};

/// Checks that the active directory has this operator.
///
/// # Errors
/// If it does not, if no configuration is active yet, or the database cannot be read.
pub(crate) async fn authorise(store: &Store, operator: &str) -> Result<(), AppError> {
    let known = active(store).await?.directory.operator(operator).is_some();
    let unknown = || AppError::State(format!("{operator:?} is not an operator of the active directory"));
    known.then_some(()).ok_or_else(unknown)
}
