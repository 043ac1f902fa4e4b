//! Remediation tasks: errors that no tool can undo and people must fix.

use countersign_core::ids::ActionId;
use countersign_store::remediations;
pub use countersign_store::remediations::Remediation;
use serde::Serialize;
use uuid::Uuid;

use crate::{AppError, Connections, operators::acting};

/// Which remediation tasks are listed.
#[derive(Clone, Copy, Debug)]
pub struct ListRemediations {
    /// Closed ones as well.
    pub all: bool,
    /// The most tasks to list.
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

/// A task to close.
#[derive(Clone, Debug)]
pub struct CloseRemediation {
    /// The task's id.
    pub id: Uuid,
    /// What shows that it is done: a letter's number, a link, a sentence. Not blank.
    pub evidence: String,
    /// Who does it, if it is to be checked: otherwise whoever has logged in to the database.
    pub operator: Option<String>,
}

/// A task that has been closed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClosedRemediation {
    /// The action that the task is about.
    pub action: ActionId,
    /// The task.
    pub task: Uuid,
}

/// Closes a remediation task.
///
/// # Errors
/// Where the operator is unknown, nothing shows that the task is done, there is no such open task, or the database
/// refuses.
pub async fn close(
    connections: &Connections,
    request: &CloseRemediation,
) -> Result<ClosedRemediation, AppError> {
    let CloseRemediation { id, evidence, operator } = request;
    let store = connections.store()?;
    let operator = acting(&store, operator.as_deref()).await?.operator;
    if evidence.trim().is_empty() {
        return Err(AppError::State("say what shows that it is done".into()));
    }
    let tx = store.transaction().await?;
    let action = remediations::close(&tx, *id, &operator, evidence).await?;
    let action = action.ok_or_else(|| AppError::NotFound(format!("there is no open task {id}")))?;
    tx.commit().await?;
    Ok(ClosedRemediation { action, task: *id })
}
