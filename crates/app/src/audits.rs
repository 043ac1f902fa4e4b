//! Audits: list them, and show one with everything needed to judge it.

pub mod draws;

use countersign_core::{
    action::State,
    digest::tagged,
    ids::{ActionId, ActionRef, AuditId},
    message::{Failure, Offer},
};
use countersign_runtime::messages;
pub use countersign_store::listing::AuditSummary;
use countersign_store::{
    Store,
    actions::LoadDepth,
    audits,
    gold::{self, GoldRecord},
    listing,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    AppError, Connections,
    actions::{content, load},
    configuration::active,
};

/// Which audits are listed. A filter that is absent lets everything pass.
#[derive(Clone, Debug)]
pub struct ListAudits {
    /// Only those that this group may judge.
    pub group: Option<String>,
    /// Only in this state: `open` or `judged`.
    pub state: Option<String>,
    /// The most audits to list.
    pub limit: i64,
}

/// An audit with everything needed to judge it.
#[derive(Clone, Debug, Serialize)]
pub struct AuditDetails {
    /// The action, as its agent calls it.
    pub action: ActionRef,
    /// The audit.
    pub audit: AuditId,
    /// Why no tool can undo the action.
    pub cannot_be_undone: Option<String>,
    /// How a tool can undo the action.
    pub compensation: Option<Offer>,
    /// What was executed; null where it was never readable or has been erased.
    pub content: Value,
    /// The digest of the content, which a finding must name.
    pub digest: String,
    /// Why the action did not succeed.
    pub error: Option<Failure>,
    /// How the action ended.
    pub outcome: State,
    /// The codes that a finding of `wrong` may give as its reason.
    pub reason_codes: Vec<String>,
    /// What the tool answered.
    pub result: Option<Value>,
    /// The rule that decided it.
    pub rule: String,
}

/// Lists audits, the oldest first.
///
/// # Errors
/// Where the database cannot be read.
pub async fn list(connections: &Connections, request: &ListAudits) -> Result<Vec<AuditSummary>, AppError> {
    let tx = connections.store()?.transaction().await?;
    let ListAudits { group, state, limit } = request;
    Ok(listing::audits(&tx, group.as_deref(), state.as_deref(), *limit).await?)
}

/// What has an audit's id.
pub(crate) enum Named {
    /// An audit of this action.
    Audit(ActionId),
    /// A gold item, which is shown and judged like an audit.
    Gold(Box<GoldRecord>),
}

impl Named {
    /// The action that it shows.
    pub(crate) fn action(&self) -> ActionId {
        match self {
            Self::Audit(action) => *action,
            Self::Gold(item) => item.action,
        }
    }
}

/// What has this id.
///
/// # Errors
/// Where there is no such audit, or the database cannot be read.
pub(crate) async fn named(store: &Store, id: AuditId) -> Result<Named, AppError> {
    let tx = store.transaction().await?;
    if let Some(action) = audits::actions_of(&tx, &[id]).await?.first() {
        return Ok(Named::Audit(*action));
    }
    let item = gold::of(&tx, &[id]).await?.pop();
    item.map(|item| Named::Gold(Box::new(item)))
        .ok_or_else(|| AppError::NotFound(format!("there is no audit {id}")))
}

/// An audit with everything needed to judge it.
///
/// # Errors
/// Where there is no such audit, or the database cannot be read.
pub async fn show(store: &Store, id: AuditId) -> Result<AuditDetails, AppError> {
    let configuration = active(store).await?;
    let named = named(store, id).await?;
    let tx = store.transaction().await?;
    let record = load(&tx, named.action(), LoadDepth::Bodies).await?;
    let record = match &named {
        Named::Audit(_) => record,
        Named::Gold(item) => messages::shown_again(item, record),
    };
    let (compensation, cannot_be_undone) = match messages::offer(&configuration.tools, &record) {
        Ok(offer) => (Some(offer), None),
        Err(why) => (None, Some(why)),
    };
    let result = record.outcome.as_ref().and_then(|outcome| outcome.result.as_deref());
    Ok(AuditDetails {
        audit: id,
        cannot_be_undone,
        compensation,
        content: content(&record),
        digest: tagged(&record.digest),
        result: result.and_then(|result| serde_json::from_slice(result).ok()),
        error: record.outcome.and_then(|outcome| outcome.error),
        outcome: record.status.state,
        reason_codes: configuration.policy.audits().reason_codes.clone(),
        rule: record.status.rule,
        action: record.reference,
    })
}
