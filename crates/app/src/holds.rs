//! Holds: stop permits and claims at once, and release them.

use countersign_core::person::Persons as _;
use countersign_policy::{Configuration, Tool};
use countersign_store::{Store, generation, holds};
pub use countersign_store::{
    StoreError,
    holds::{Hold, Scope},
};
use serde::Serialize;

use crate::{
    AppError, Connections,
    operators::{Acting, acting},
};

/// A hold to place.
#[derive(Clone, Debug)]
pub struct PlaceHold {
    /// The kind of `name`.
    pub scope: Scope,
    /// The agent, tool or rule; empty for everything.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Who does it, if it is to be checked: otherwise whoever has logged in to the database.
    pub operator: Option<String>,
}

/// A hold to release.
#[derive(Clone, Debug)]
pub struct ReleaseHold {
    /// The hold's number.
    pub id: i64,
    /// Who does it, if it is to be checked: otherwise whoever has logged in to the database.
    pub operator: Option<String>,
}

/// A hold that has been placed or released.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HoldChange {
    /// The generation from which the change is in force.
    pub generation: i64,
    /// The hold's number.
    pub hold: i64,
}

/// How often placing a hold is attempted if its lock is taken; readers hold it for milliseconds.
const ATTEMPTS: usize = 5;

/// Places a hold. It is in force when this returns. `retrying` is called with the reason before each new attempt.
///
/// # Errors
/// Where the operator or the name is not in the active configuration, or the database refuses.
pub async fn place(
    connections: &Connections,
    request: &PlaceHold,
    mut retrying: impl FnMut(&StoreError),
) -> Result<HoldChange, AppError> {
    let store = connections.store()?;
    let Acting { operator, configuration } = acting(&store, request.operator.as_deref()).await?;
    known(&configuration, request.scope, &request.name)?;
    for left in (0..ATTEMPTS).rev() {
        match attempt(&store, request, &operator).await {
            Err(error @ StoreError::Statement(_)) if left > 0 => retrying(&error),
            placed => return Ok(placed?),
        }
    }
    Err(AppError::State("the hold could not be placed".into()))
}

async fn attempt(store: &Store, request: &PlaceHold, operator: &str) -> Result<HoldChange, StoreError> {
    let PlaceHold { scope, name, reason, .. } = request;
    let tx = store.transaction().await?;
    let (hold, generation) = holds::place(&tx, *scope, name, reason, operator).await?;
    tx.commit().await?;
    Ok(HoldChange { generation, hold })
}

/// Checks the name: a hold on a misspelt one would have no effect, yet be listed as in force.
fn known(active: &Configuration, scope: Scope, name: &str) -> Result<(), AppError> {
    let names: Vec<&str> = match scope {
        Scope::Everything => return Ok(()),
        Scope::Agent => active.directory.agents().iter().map(|agent| agent.id.as_str()).collect(),
        Scope::Tool => active.tools.iter().map(Tool::name).collect(),
        Scope::Rule => active.policy.rule_ids().collect(),
    };
    if names.contains(&name) {
        return Ok(());
    }
    let (scope, names) = (scope.as_str(), names.join(", "));
    Err(AppError::Usage(format!(
        "there is no {scope} {name:?} in the active configuration; there are {names}"
    )))
}

/// Releases a hold that another operator placed.
///
/// # Errors
/// Where the operator is unknown or the person who placed the hold, there is no such hold, or the database refuses.
pub async fn release(connections: &Connections, request: &ReleaseHold) -> Result<HoldChange, AppError> {
    let store = connections.store()?;
    let ReleaseHold { id, operator } = request;
    let Acting { operator, configuration } = acting(&store, operator.as_deref()).await?;
    let same = |one: &str, other: &str| configuration.directory.same(one, other);
    let tx = store.transaction().await?;
    let generation = holds::release(&tx, *id, &operator, same).await?;
    tx.commit().await?;
    Ok(HoldChange { generation, hold: *id })
}

/// Lists the holds in force.
///
/// # Errors
/// Where no configuration is active yet, or the database cannot be read.
pub async fn list(connections: &Connections) -> Result<Vec<Hold>, AppError> {
    let (tx, _) = generation::begin(&connections.store()?).await?;
    Ok(holds::open(&tx).await?)
}
