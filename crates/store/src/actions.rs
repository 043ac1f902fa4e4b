//! Actions: accepted once, read with what belongs to them, moved only under their lock.

use chrono::{DateTime, Utc};
use countersign_core::{
    action::State,
    ids::{ActionId, ActionRef, PermitId},
    verdict::Verdict,
};
use countersign_statistics::switching::PlanState;
use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use crate::{Pipeline, StoreError, Transaction, transaction::parameters};

mod load;

pub use load::{ActionRecord, ApprovalRecord, LoadDepth, OutcomeRecord, commit, load, lock_and_load};
pub(crate) use load::{COLUMNS, action};

/// The result of an action's evaluation.
#[derive(Clone, Debug)]
pub struct ActionStatus {
    /// Where the action stands now.
    pub state: State,
    /// The policy's verdict.
    pub verdict: Verdict,
    /// The rule that gave it.
    pub rule: String,
    /// The generation it was evaluated under.
    pub generation: i64,
    /// The policy's version.
    pub policy_version: String,
    /// Inclusion probability of an audit, should it be executed.
    pub audit_rate: f64,
    /// Who audits it.
    pub audit_group: String,
    /// What it is compared with.
    pub stratum: String,
    /// The state of its stratum's sampling plan, if its rule has one.
    pub plan_state: Option<PlanState>,
    /// Whether a human has approved exactly what is stored.
    pub approved: bool,
    /// Who.
    pub approvers: Vec<String>,
    /// The permit that is out, where the state has one.
    pub permit: Option<PermitId>,
}

/// A new action.
#[derive(Clone, Debug)]
pub struct NewAction {
    /// Made by the router.
    pub id: ActionId,
    /// As its agent calls it.
    pub reference: ActionRef,
    /// The agent's id in the directory.
    pub agent: String,
    /// The tool; empty where the message could not be decoded.
    pub tool: String,
    /// After this it is not executed.
    pub expires_at: Option<DateTime<Utc>>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The agent's earlier action that it replaces.
    pub supersedes: Option<ActionId>,
    /// The action that it undoes.
    pub compensates: Option<ActionId>,
    /// What the router decided.
    pub status: ActionStatus,
}

/// Stores actions whose (source, id) is new. Returns the ids of those that were.
///
/// Callers sort by reference, so that two routers with the same proposals do not wait for each other in a ring.
pub async fn insert(tx: &Transaction, rows: &[NewAction]) -> Result<Vec<ActionId>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let statement = tx.prepare_cached(include_str!("sql/insert_actions.sql")).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
    let sources: Vec<&str> = rows.iter().map(|row| row.reference.source.as_str()).collect();
    let event_ids: Vec<&str> = rows.iter().map(|row| row.reference.id.as_str()).collect();
    let agents: Vec<&str> = rows.iter().map(|row| row.agent.as_str()).collect();
    let tools: Vec<&str> = rows.iter().map(|row| row.tool.as_str()).collect();
    let states: Vec<&str> = rows.iter().map(|row| row.status.state.as_str()).collect();
    let verdicts: Vec<&str> = rows.iter().map(|row| row.status.verdict.as_str()).collect();
    let rules: Vec<&str> = rows.iter().map(|row| row.status.rule.as_str()).collect();
    let generations: Vec<i64> = rows.iter().map(|row| row.status.generation).collect();
    let versions: Vec<&str> = rows.iter().map(|row| row.status.policy_version.as_str()).collect();
    let rates: Vec<f64> = rows.iter().map(|row| row.status.audit_rate).collect();
    let groups: Vec<&str> = rows.iter().map(|row| row.status.audit_group.as_str()).collect();
    let permits: Vec<Option<Uuid>> = rows.iter().map(|row| row.status.permit.map(|id| id.0)).collect();
    let expires: Vec<Option<DateTime<Utc>>> = rows.iter().map(|row| row.expires_at).collect();
    let traces: Vec<Option<&str>> = rows.iter().map(|row| row.traceparent.as_deref()).collect();
    let supersedes: Vec<Option<Uuid>> = rows.iter().map(|row| row.supersedes.map(|id| id.0)).collect();
    let compensates: Vec<Option<Uuid>> = rows.iter().map(|row| row.compensates.map(|id| id.0)).collect();
    let strata: Vec<&str> = rows.iter().map(|row| row.status.stratum.as_str()).collect();
    let plan_states: Vec<Option<&str>> =
        rows.iter().map(|row| row.status.plan_state.map(PlanState::as_str)).collect();
    let inserted = tx
        .query(
            &statement,
            &[
                &ids,
                &sources,
                &event_ids,
                &agents,
                &tools,
                &states,
                &verdicts,
                &rules,
                &generations,
                &versions,
                &rates,
                &groups,
                &permits,
                &expires,
                &traces,
                &supersedes,
                &compensates,
                &strata,
                &plan_states,
            ],
        )
        .await?;
    Ok(inserted.iter().map(|row| ActionId(row.get(0))).collect())
}

/// A proposal that is there already.
#[derive(Clone, Debug)]
pub struct Known {
    /// Which.
    pub id: ActionId,
    /// As its agent calls it.
    pub reference: ActionRef,
    /// The salt of `body_digest`.
    pub salt: Vec<u8>,
    /// What the first proposal said.
    pub body_digest: Vec<u8>,
}

/// Finds actions by what their agents call them.
pub async fn find(tx: &Transaction, references: &[&ActionRef]) -> Result<Vec<Known>, StoreError> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    let statement = tx
        .prepare_cached(
            "SELECT a.id, a.source, a.event_id, p.salt, p.body_digest
             FROM UNNEST($1::text[], $2::text[]) AS u (source, event_id)
             JOIN actions a ON a.source = u.source AND a.event_id = u.event_id
             JOIN payloads p ON p.action = a.id",
        )
        .await?;
    let sources: Vec<&str> = references.iter().map(|reference| reference.source.as_str()).collect();
    let ids: Vec<&str> = references.iter().map(|reference| reference.id.as_str()).collect();
    let rows = tx.query(&statement, &[&sources, &ids]).await?;
    Ok(rows
        .iter()
        .map(|row| Known {
            id: ActionId(row.get(0)),
            reference: ActionRef { source: row.get(1), id: row.get(2) },
            salt: row.get(3),
            body_digest: row.get(4),
        })
        .collect())
}

/// Locks actions until the transaction ends, in id order. Read them afterwards: a join read together with
/// the lock could be older than it.
pub async fn lock(tx: &Transaction, ids: &[ActionId]) -> Result<(), StoreError> {
    let mut reads = Pipeline::default();
    locking(tx, &mut reads, ids).await?;
    tx.run(&reads).await.map(drop)
}

/// [`lock`], together with what is done under the lock. Its rows: ids, fences and states, as they are then.
pub(crate) async fn locking(
    client: &ClientWrapper,
    reads: &mut Pipeline<'_>,
    ids: &[ActionId],
) -> Result<(), StoreError> {
    let sql = "SELECT id, fence, state FROM actions WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    reads.add(client, sql, parameters![uuids(ids)]).await
}

/// Writes new statuses of locked actions. `decided` marks those that a human decided just now.
pub async fn set_status<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    rows: &[(ActionId, &'a ActionStatus, bool)],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = include_str!("sql/set_status.sql");
    let ids: Vec<Uuid> = rows.iter().map(|row| row.0.0).collect();
    let states: Vec<&str> = rows.iter().map(|row| row.1.state.as_str()).collect();
    let verdicts: Vec<&str> = rows.iter().map(|row| row.1.verdict.as_str()).collect();
    let rules: Vec<&str> = rows.iter().map(|row| row.1.rule.as_str()).collect();
    let generations: Vec<i64> = rows.iter().map(|row| row.1.generation).collect();
    let versions: Vec<&str> = rows.iter().map(|row| row.1.policy_version.as_str()).collect();
    let rates: Vec<f64> = rows.iter().map(|row| row.1.audit_rate).collect();
    let groups: Vec<&str> = rows.iter().map(|row| row.1.audit_group.as_str()).collect();
    let approved: Vec<bool> = rows.iter().map(|row| row.1.approved).collect();
    // Ids hold no comma, and an array of arrays would have to be rectangular.
    let approvers: Vec<String> = rows.iter().map(|row| row.1.approvers.join(",")).collect();
    let permits: Vec<Option<Uuid>> = rows.iter().map(|row| row.1.permit.map(|id| id.0)).collect();
    let decided: Vec<bool> = rows.iter().map(|row| row.2).collect();
    let ended: Vec<bool> = rows.iter().map(|row| row.1.state.outcome().is_some()).collect();
    let strata: Vec<&str> = rows.iter().map(|row| row.1.stratum.as_str()).collect();
    let plan_states: Vec<Option<&str>> =
        rows.iter().map(|row| row.1.plan_state.map(PlanState::as_str)).collect();
    writes
        .add(
            tx,
            sql,
            parameters![
                ids,
                states,
                verdicts,
                rules,
                generations,
                versions,
                rates,
                groups,
                approved,
                approvers,
                permits,
                decided,
                ended,
                strata,
                plan_states
            ],
        )
        .await
}

pub(crate) fn uuids(ids: &[ActionId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}
