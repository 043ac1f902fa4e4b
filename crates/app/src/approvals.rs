//! Approval requests: list them, and show one with everything needed to decide it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use countersign_core::{
    action::State,
    approval::ApprovalSpec,
    digest::tagged,
    ids::{ActionId, ActionRef, ApprovalId},
    message::Decision,
};
pub use countersign_store::listing::ApprovalSummary;
use countersign_store::{Store, actions::LoadDepth, approvals, listing};
use serde::Serialize;
use serde_json::Value;

use crate::{
    AppError, Connections,
    actions::{content, load},
};

/// Which approval requests are listed. A filter that is absent lets everything pass.
#[derive(Clone, Debug)]
pub struct ListApprovals {
    /// Only those that this group may decide.
    pub group: Option<String>,
    /// Only in this state: `open`, `approved`, `rejected`, `expired` or `closed`.
    pub state: Option<String>,
    /// The most requests to list.
    pub limit: i64,
}

/// An approval request with everything needed to decide it.
#[derive(Clone, Debug, Serialize)]
pub struct ApprovalDetails {
    /// The action, as its agent calls it.
    pub action: ActionRef,
    /// The request.
    pub approval: ApprovalId,
    /// How many of which groups must approve, by when, and what follows if they don't.
    pub asks: ApprovalSpec,
    /// What is to be executed; null where it was never readable or has been erased.
    pub content: Value,
    /// The digest of the content, which a decision must name.
    pub digest: String,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Why the agent proposes it.
    pub reason: Option<Value>,
    /// The request's state.
    pub request: &'static str,
    /// The rule that requires the approval.
    pub rule: String,
    /// The decisions that count on the current content, by reviewer.
    pub so_far: BTreeMap<String, Decision>,
    /// The action's state.
    pub state: State,
    /// Why the rule requires it.
    pub why: String,
}

/// Lists approval requests, the next to expire first.
///
/// # Errors
/// Where the database cannot be read.
pub async fn list(
    connections: &Connections,
    request: &ListApprovals,
) -> Result<Vec<ApprovalSummary>, AppError> {
    let tx = connections.store()?.transaction().await?;
    let ListApprovals { group, state, limit } = request;
    Ok(listing::approvals(&tx, group.as_deref(), state.as_deref(), *limit).await?)
}

/// The action that a request asks about.
///
/// # Errors
/// Where there is no such request, or the database cannot be read.
pub async fn action_of(store: &Store, id: ApprovalId) -> Result<ActionId, AppError> {
    let tx = store.transaction().await?;
    let found = approvals::actions_of(&tx, &[id]).await?;
    let found = found.first().map(|(_, action)| *action);
    found.ok_or_else(|| AppError::NotFound(format!("there is no approval request {id}")))
}

/// An approval request with everything needed to decide it.
///
/// # Errors
/// Where there is no such request, or the database cannot be read.
pub async fn show(store: &Store, id: ApprovalId) -> Result<ApprovalDetails, AppError> {
    let action = action_of(store, id).await?;
    let tx = store.transaction().await?;
    let record = load(&tx, action, LoadDepth::Bodies).await?;
    let (digest, content) = (tagged(&record.digest), content(&record));
    let body = record.body.as_deref().and_then(|body| serde_json::from_slice::<Value>(body).ok());
    let approval =
        record.approval.ok_or_else(|| AppError::NotFound(format!("the approval request {id} is gone")))?;
    Ok(ApprovalDetails {
        action: record.reference,
        approval: id,
        asks: approval.request.spec,
        content,
        digest,
        expires_at: approval.request.expires_at,
        opened_at: approval.request.opened_at,
        reason: body.and_then(|body| body.pointer("/data/reason").cloned()),
        request: approval.request.state.as_str(),
        rule: approval.rule,
        so_far: approval.request.votes.into_iter().map(|(who, vote)| (who, vote.decision)).collect(),
        state: record.status.state,
        why: approval.rule_text,
    })
}
