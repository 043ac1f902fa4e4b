//! Actions: list them, and show the timeline of one.

use countersign_core::ids::ActionId;
use countersign_runtime::messages;
use countersign_store::{
    Transaction,
    actions::{self, ActionRecord, LoadDepth},
    compensations, evidence, listing, waiting,
};
pub use countersign_store::{
    evidence::TimelineEntry,
    listing::{ActionSummary, DrawSummary},
};
use serde::Serialize;
use serde_json::Value;

use crate::{AppError, Connections, configuration::active};

/// Which actions are listed. A filter that is absent lets everything pass.
#[derive(Clone, Debug)]
pub struct ListActions {
    /// Only in this state, such as `succeeded`.
    pub state: Option<String>,
    /// Only this agent's.
    pub agent: Option<String>,
    /// Only calls of this tool.
    pub tool: Option<String>,
    /// The most actions to list.
    pub limit: i64,
}

/// One action with everything that is stored of it.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// The action.
    pub action: ActionSummary,
    /// Why it cannot be undone, if it succeeded and its tool has a compensation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cannot_be_undone: Option<String>,
    /// The action that undoes it.
    pub compensated_by: Option<ActionId>,
    /// The action that it undoes.
    pub compensates: Option<ActionId>,
    /// What a human approves; null where it was never readable or has been erased.
    pub content: Value,
    /// Whether it was drawn for an audit; absent until it is executed.
    pub sampling: Option<DrawSummary>,
    /// Its evidence, in order.
    pub timeline: Vec<TimelineEntry>,
}

/// Lists actions, the newest first.
///
/// # Errors
/// Where the database cannot be read.
pub async fn list(connections: &Connections, request: ListActions) -> Result<Vec<ActionSummary>, AppError> {
    let ListActions { state, agent, tool, limit } = request;
    let tx = connections.store()?.transaction().await?;
    Ok(listing::actions(&tx, &listing::Filter { state, agent, tool, from: None, limit }).await?)
}

/// The timeline of the action that `name` identifies: its agent's id for it, `source#id`, or Countersign's own id.
///
/// # Errors
/// If no or more than one action matches, or the database cannot be read.
pub async fn show(connections: &Connections, name: &str) -> Result<Timeline, AppError> {
    let store = connections.store()?;
    let tx = store.transaction().await?;
    let action = find(&tx, name).await?;
    let mut shown = timeline(&tx, &action).await?;
    if shown.compensated_by.is_none() {
        let record = load(&tx, action.id, LoadDepth::Bodies).await?;
        drop(tx);
        shown.cannot_be_undone = messages::cannot_be_undone(&active(&store).await?.tools, &record);
    }
    Ok(shown)
}

/// The one action that `name` identifies.
pub(crate) async fn find(tx: &Transaction, name: &str) -> Result<ActionSummary, AppError> {
    let mut found = listing::find(tx, name).await?;
    match (found.pop(), found.as_slice()) {
        (Some(one), []) => Ok(one),
        (None, _) => Err(AppError::NotFound(unknown(tx, name).await?)),
        (Some(last), others) => {
            let matches = others.iter().chain([&last]);
            let matches = matches.map(|action| format!("{}#{}", action.source, action.event_id)).collect();
            Err(AppError::Ambiguous { name: name.into(), matches })
        }
    }
}

/// Why there is no action with this name: it may wait for its turn.
async fn unknown(tx: &Transaction, name: &str) -> Result<String, AppError> {
    let id = name.rsplit_once('#').map_or(name, |(_, id)| id);
    Ok(match waiting::find(tx, id).await? {
        Some((agent, since)) => format!(
            "{name:?} has not been evaluated yet: the agent {agent:?} is over its quotas, and it has waited for its turn since {}",
            since.format("%F %T UTC")
        ),
        None => format!("there is no action {name:?}"),
    })
}

/// One action with everything that is stored of it. Whether it can be undone is left to [`show`].
///
/// # Errors
/// If the action does not exist, or the database cannot be read.
pub async fn timeline(tx: &Transaction, action: &ActionSummary) -> Result<Timeline, AppError> {
    let record = load(tx, action.id, LoadDepth::Request).await?;
    let undone = compensations::proposed(tx, &[action.id]).await?;
    Ok(Timeline {
        action: action.clone(),
        cannot_be_undone: None,
        compensated_by: undone.first().map(|(_, by)| *by),
        compensates: record.compensates,
        content: content(&record),
        sampling: listing::draw(tx, action.id).await?,
        timeline: evidence::timeline(tx, action.id).await?,
    })
}

/// One action's record.
pub(crate) async fn load(
    tx: &Transaction,
    action: ActionId,
    depth: LoadDepth,
) -> Result<ActionRecord, AppError> {
    let record = actions::load(tx, &[action], depth).await?.pop();
    record.ok_or_else(|| AppError::NotFound(format!("the action {action} is gone")))
}

/// What a human approves, as JSON; null where it was never readable or has been erased.
pub(crate) fn content(record: &ActionRecord) -> Value {
    record.content.as_deref().and_then(|content| serde_json::from_slice(content).ok()).unwrap_or_default()
}
