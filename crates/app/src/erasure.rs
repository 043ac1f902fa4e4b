//! Erasure: what is stored about a person, and the legal holds that forbid erasing it.

use countersign_store::erasure;
pub use countersign_store::erasure::{Erased, Held, LegalHold};
use serde::Serialize;

use crate::{AppError, Connections, operators::acting};

/// A request to erase a person.
#[derive(Clone, Debug)]
pub struct Erase {
    /// The person, exactly as messages name them. Not blank.
    pub subject: String,
    /// Who does it, if it is to be checked: otherwise whoever has logged in to the database.
    pub operator: Option<String>,
}

/// A legal hold to place.
#[derive(Clone, Debug)]
pub struct PlaceLegalHold {
    /// The person or the action.
    pub held: Held,
    /// Why; must not name a person.
    pub reason: String,
    /// Who does it, if it is to be checked: otherwise whoever has logged in to the database.
    pub operator: Option<String>,
}

/// A legal hold to release.
#[derive(Clone, Debug)]
pub struct ReleaseLegalHold {
    /// The hold's number.
    pub id: i64,
    /// Who does it, if it is to be checked: otherwise whoever has logged in to the database.
    pub operator: Option<String>,
}

/// A legal hold that has been placed or released.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LegalHoldChange {
    /// The hold's number.
    pub hold: i64,
}

/// Erases what is stored about a person. Evidence and proofs stay.
///
/// # Errors
/// Where the subject is blank, the operator is unknown, a legal hold or an action that has not ended forbids it, or the
/// database refuses.
pub async fn erase(connections: &Connections, request: &Erase) -> Result<Erased, AppError> {
    let Erase { subject, operator } = request;
    if subject.trim().is_empty() {
        return Err(AppError::State("whom? --subject is empty".into()));
    }
    let store = connections.store()?;
    let operator = acting(&store, operator.as_deref()).await?.operator;
    let tx = store.transaction().await?;
    let erased = erasure::erase(&tx, subject, &operator).await?;
    tx.commit().await?;
    Ok(erased)
}

/// Forbids erasing a person or an action.
///
/// # Errors
/// Where the operator is unknown, or the database refuses.
pub async fn place_hold(
    connections: &Connections,
    request: &PlaceLegalHold,
) -> Result<LegalHoldChange, AppError> {
    let PlaceLegalHold { held, reason, operator } = request;
    let store = connections.store()?;
    let operator = acting(&store, operator.as_deref()).await?.operator;
    let tx = store.transaction().await?;
    let hold = erasure::place_hold(&tx, held, &rand::random(), reason, &operator).await?;
    tx.commit().await?;
    Ok(LegalHoldChange { hold })
}

/// Releases a legal hold.
///
/// # Errors
/// Where the operator is unknown, there is no such open hold, or the database refuses.
pub async fn release_hold(
    connections: &Connections,
    request: &ReleaseLegalHold,
) -> Result<LegalHoldChange, AppError> {
    let ReleaseLegalHold { id, operator } = request;
    let store = connections.store()?;
    let operator = acting(&store, operator.as_deref()).await?.operator;
    let tx = store.transaction().await?;
    erasure::release_hold(&tx, *id, &operator).await?;
    tx.commit().await?;
    Ok(LegalHoldChange { hold: *id })
}

/// Lists all legal holds, the newest first.
///
/// # Errors
/// Where the database cannot be read.
pub async fn holds(connections: &Connections) -> Result<Vec<LegalHold>, AppError> {
    let tx = connections.store()?.transaction().await?;
    Ok(erasure::holds(&tx).await?)
}
