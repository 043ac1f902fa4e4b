//! The governed configuration: policy, tools and directory.

use countersign_policy::{Configuration, Problem};
use countersign_store::{Store, Transaction, generation};

use crate::AppError;

/// The active configuration.
///
/// # Errors
/// Where none is active yet, or the database cannot be read.
pub async fn active(store: &Store) -> Result<Configuration, AppError> {
    let (tx, active) = generation::begin(store).await?;
    of(&tx, active.config).await
}

/// A configuration that was applied.
///
/// # Errors
/// Where this version cannot parse it, or the database cannot be read.
pub(crate) async fn of(tx: &Transaction, config: i64) -> Result<Configuration, AppError> {
    let sources = generation::sources(tx, config).await?;
    Configuration::parse(&sources).map_err(|found| {
        let found = problems(&found);
        AppError::Usage(format!("configuration {config} was written by another version: {found}"))
    })
}

/// Joins problems into one message.
pub(crate) fn problems(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("the configuration does not check:\n{}", lines.join("\n"))
}
