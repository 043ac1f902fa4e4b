//! Remediation tasks: what no tool can undo, and people put right.

use countersign_store::remediations;
pub use countersign_store::remediations::Remediation;

use crate::{AppError, Connections};

/// Which remediation tasks are listed.
#[derive(Clone, Copy, Debug)]
pub struct ListRemediations {
    /// Closed ones as well.
    pub all: bool,
    /// At most so many.
    pub limit: i64,
}

/// Lists remediation tasks, the most urgent first.
///
/// # Errors
/// Where the database cannot be read.
pub async fn list(
    connections: &Connections,
    request: ListRemediations,
) -> Result<Vec<Remediation>, AppError> {
    let tx = connections.store()?.transaction().await?;
    Ok(remediations::list(&tx, request.all, request.limit).await?)
}
