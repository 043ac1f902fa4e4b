//! Bringing the database up to date, as its owner.

use crate::{AppError, Connections};

/// Runs the migrations that have not been run yet. Returns their names.
///
/// # Errors
/// Where the database cannot be reached, or a migration fails: it is then rolled back.
pub async fn migrate(to: &Connections) -> Result<Vec<String>, AppError> {
    Ok(to.store()?.migrate().await?)
}

/// Gives each process's role exactly the rights that it needs.
///
/// # Errors
/// Where the database cannot be reached, or a role does not exist.
pub async fn grant(to: &Connections) -> Result<(), AppError> {
    Ok(to.store()?.grant().await?)
}
