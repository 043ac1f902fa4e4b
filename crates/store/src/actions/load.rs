//! Reading actions with their related rows.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use countersign_core::{
    approval::{Request, Vote},
    ids::{ActionId, ActionRef, ApprovalId, PermitId},
    message::{Decision, Failure},
    proposal::{self, Proposal, Refusal},
};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{ActionStatus, locking, uuids};
use crate::{Pipeline, StoreError, Transaction, transaction::parameters};

/// The approval request of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalRecord {
    /// Its id.
    pub id: ApprovalId,
    /// The rule that requires approval.
    pub rule: String,
    /// Why the rule requires it.
    pub rule_text: String,
    /// Its requirements, its state, and the decisions on the current content.
    pub request: Request,
    /// The groups to which it has escalated, according to the evidence.
    pub escalated: Vec<String>,
    /// By person, the keys that signed their decisions.
    pub keys: BTreeMap<String, BTreeSet<String>>,
}

/// A decision on the current content.
#[derive(Deserialize)]
struct StoredVote {
    reviewer: String,
    decision: Decision,
    kid: String,
    signed_at: DateTime<Utc>,
}

impl StoredVote {
    fn vote(&self) -> Vote {
        Vote { decision: self.decision, signed_at: self.signed_at }
    }
}

/// How an action ended.
#[derive(Clone, Debug)]
pub struct OutcomeRecord {
    /// 1, or 2 for the resolution of an action in doubt.
    pub seq: i16,
    /// The id of its outcome event.
    pub event: Uuid,
    /// The tool's answer, as JSON.
    pub result: Option<Vec<u8>>,
    /// Why it did not succeed.
    pub error: Option<Failure>,
}

/// An action with its related rows. Whatever is beyond the requested [`LoadDepth`] is empty.
#[derive(Clone, Debug)]
pub struct ActionRecord {
    /// Its id.
    pub id: ActionId,
    /// The proposal's `source` and `id`.
    pub reference: ActionRef,
    /// The agent's id in the directory.
    pub agent: String,
    /// The tool.
    pub tool: String,
    /// Its evaluation and state.
    pub status: ActionStatus,
    /// The number of claims so far.
    pub fence: i32,
    /// Whether it is executing and the claim's lease has run out.
    pub interrupted: bool,
    /// Whether its agent has withdrawn it; known at [`LoadDepth::Bodies`] only.
    pub cancelled: bool,
    /// After this it is not executed.
    pub expires_at: Option<DateTime<Utc>>,
    /// The action that it undoes.
    pub compensates: Option<ActionId>,
    /// When the router accepted it.
    pub proposed_at: DateTime<Utc>,
    /// When a human decided.
    pub decided_at: Option<DateTime<Utc>>,
    /// When an executor first claimed it.
    pub started_at: Option<DateTime<Utc>>,
    /// When its outcome was recorded.
    pub ended_at: Option<DateTime<Utc>>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The message as received, if requested or to be shown to a human.
    pub body: Option<Vec<u8>>,
    /// What a human approves, in canonical form; absent where undecodable or erased.
    pub content: Option<Vec<u8>>,
    /// The salt of the digests.
    pub salt: Vec<u8>,
    /// The digest of `content`.
    pub digest: Vec<u8>,
    /// The arguments that a reviewer put in place of the agent's, in canonical form.
    pub edited: Option<Vec<u8>>,
    /// The approval request that is or was open.
    pub approval: Option<ApprovalRecord>,
    /// The latest outcome.
    pub outcome: Option<OutcomeRecord>,
    /// The bytes of the permit in force.
    pub permit_bytes: Option<Vec<u8>>,
    /// The database's clock when it was read.
    pub now: DateTime<Utc>,
}

impl ActionRecord {
    /// The proposal as it is to be executed: with the arguments of a reviewer's edit. Needs [`LoadDepth::Bodies`].
    ///
    /// # Errors
    /// Where the stored message cannot be decoded, or has been erased.
    pub fn proposal(&self) -> Result<Proposal, Refusal> {
        // What is stored was within the limit when it arrived, unless it is a compensation, which has none.
        let mut proposal = proposal::decode(self.body.as_deref().unwrap_or_default(), usize::MAX)?;
        let edited = self.edited.as_deref().and_then(|edited| serde_json::from_slice::<Value>(edited).ok());
        if let Some(edited) = edited {
            proposal.action["arguments"] = edited.clone();
            proposal.arguments = edited;
        }
        Ok(proposal)
    }
}

/// Which related rows are read with an action. Each depth includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadDepth {
    /// The action and its outcome.
    Outcome = 0,
    /// What was proposed: content, digests, edits.
    Content = 1,
    /// The approval request and the permit in force; the message as received if it is to be shown to a human.
    Request = 2,
    /// Every message as received, and whether its agent has withdrawn it.
    Bodies = 3,
}

/// Reads actions to this depth, in id order.
pub async fn load(
    tx: &Transaction,
    ids: &[ActionId],
    depth: LoadDepth,
) -> Result<Vec<ActionRecord>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut reads = Pipeline::default();
    loading(tx, &mut reads, ids, depth).await?;
    loaded(&tx.run(&reads).await?)
}

/// Adds [`load`] to a pipeline, as its last statement.
pub(crate) async fn loading(
    tx: &Transaction,
    statements: &mut Pipeline<'_>,
    ids: &[ActionId],
    depth: LoadDepth,
) -> Result<(), StoreError> {
    let sql = include_str!("../sql/load_actions.sql");
    statements.add(tx, sql, parameters![uuids(ids), depth as i32]).await
}

/// Executes the last statements of a transaction, reads actions as they are afterwards, and commits, in one trip.
///
/// # Errors
/// [`StoreError::Corrupt`] where the transaction is committed but one of the actions cannot be read.
pub async fn commit(
    tx: Transaction,
    mut writes: Pipeline<'_>,
    ids: &[ActionId],
    depth: LoadDepth,
) -> Result<Vec<ActionRecord>, StoreError> {
    if ids.is_empty() {
        tx.commit_with(&writes).await?;
        return Ok(Vec::new());
    }
    loading(&tx, &mut writes, ids, depth).await?;
    loaded(&tx.commit_with(&writes).await?)
}

/// The result of [`loading`].
pub(crate) fn loaded(rows: &[Vec<Row>]) -> Result<Vec<ActionRecord>, StoreError> {
    rows.last().into_iter().flatten().map(record).collect()
}

/// Locks actions until the transaction ends, and reads them as they are under the lock, in one trip.
pub async fn lock_and_load(
    tx: &Transaction,
    ids: &[ActionId],
    depth: LoadDepth,
) -> Result<Vec<ActionRecord>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // Each statement has its own snapshot.
    let mut reads = Pipeline::default();
    locking(tx, &mut reads, ids).await?;
    loading(tx, &mut reads, ids, depth).await?;
    loaded(&tx.run(&reads).await?)
}

fn parse<T: std::str::FromStr>(row: &Row, column: &str) -> Result<T, StoreError> {
    let text: &str = row.get(column);
    text.parse().map_err(|_| StoreError::Corrupt(format!("{text:?} is not a valid {column}")))
}

fn approval(row: &Row) -> Result<Option<ApprovalRecord>, StoreError> {
    let Some(id) = row.get::<_, Option<Uuid>>("approval").map(ApprovalId) else { return Ok(None) };
    let corrupt = |what: &str| StoreError::Corrupt(format!("the {what} of approval {id} cannot be read"));
    let digest: &[u8] = row.get("digest");
    let mut votes: Vec<StoredVote> = match row.get::<_, Option<Value>>("votes") {
        Some(votes) => serde_json::from_value(votes).map_err(|_| corrupt("decisions"))?,
        None => vec![],
    };
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut last: BTreeMap<String, Vote> = BTreeMap::new();
    votes.sort_by_key(|stored| stored.vote().precedence());
    for stored in votes {
        let vote = stored.vote();
        let before = last.insert(stored.reviewer.clone(), vote);
        let kids = keys.entry(stored.reviewer).or_default();
        // What a person has decided since is not signed by the earlier decision's keys.
        if before.is_some_and(|before| before.decision != vote.decision) {
            kids.clear();
        }
        kids.insert(stored.kid);
    }
    Ok(Some(ApprovalRecord {
        id,
        rule: row.get("approval_rule"),
        rule_text: row.get("rule_text"),
        request: Request {
            spec: serde_json::from_value(row.get("spec")).map_err(|_| corrupt("spec"))?,
            digest: digest.try_into().map_err(|_| corrupt("digest"))?,
            opened_at: row.get("opened_at"),
            expires_at: row.get("approval_expires_at"),
            state: parse(row, "approval_state")?,
            votes: last,
            editors: row.get::<_, Vec<String>>("editors").into_iter().collect(),
        },
        escalated: row.get("escalated"),
        keys,
    }))
}

/// The columns that [`action`] reads.
pub(crate) const COLUMNS: &str = "id, source, event_id, agent, tool, state, verdict, rule, generation, policy_version, \
    audit_rate, audit_score, audit_group, stratum, plan_state, compensates, approved, approvers, permit, fence, expires_at, proposed_at, \
    decided_at, started_at, ended_at, traceparent, \
    state = 'executing' AND lease_until < clock_timestamp() AS interrupted, clock_timestamp() AS now";

/// An action without its related rows.
pub(crate) fn action(row: &Row) -> Result<ActionRecord, StoreError> {
    Ok(ActionRecord {
        id: ActionId(row.get("id")),
        reference: ActionRef { source: row.get("source"), id: row.get("event_id") },
        agent: row.get("agent"),
        tool: row.get("tool"),
        status: ActionStatus {
            state: parse(row, "state")?,
            verdict: parse(row, "verdict")?,
            rule: row.get("rule"),
            generation: row.get("generation"),
            policy_version: row.get("policy_version"),
            audit_rate: row.get("audit_rate"),
            audit_score: row.get("audit_score"),
            audit_group: row.get("audit_group"),
            stratum: row.get("stratum"),
            plan_state: row
                .get::<_, Option<&str>>("plan_state")
                .and_then(|plan_state| plan_state.parse().ok()),
            approved: row.get("approved"),
            approvers: row.get("approvers"),
            permit: row.get::<_, Option<Uuid>>("permit").map(PermitId),
        },
        fence: row.get("fence"),
        interrupted: row.get("interrupted"),
        cancelled: false,
        expires_at: row.get("expires_at"),
        compensates: row.get::<_, Option<Uuid>>("compensates").map(ActionId),
        proposed_at: row.get("proposed_at"),
        decided_at: row.get("decided_at"),
        started_at: row.get("started_at"),
        ended_at: row.get("ended_at"),
        traceparent: row.get("traceparent"),
        body: None,
        content: None,
        salt: Vec::new(),
        digest: Vec::new(),
        edited: None,
        approval: None,
        outcome: None,
        permit_bytes: None,
        now: row.get("now"),
    })
}

fn record(row: &Row) -> Result<ActionRecord, StoreError> {
    let outcome = row.get::<_, Option<Uuid>>("outcome_event").map(|event| OutcomeRecord {
        event,
        seq: row.get("seq"),
        result: row.get("result"),
        error: row.get::<_, Option<String>>("error_code").map(|code| Failure {
            code,
            message: row.get::<_, Option<String>>("error_message").unwrap_or_default(),
            retry_at: row.get("retry_at"),
        }),
    });
    Ok(ActionRecord {
        cancelled: row.get("cancelled"),
        body: row.get("body"),
        content: row.get("content"),
        salt: row.get::<_, Option<_>>("salt").unwrap_or_default(),
        digest: row.get::<_, Option<_>>("digest").unwrap_or_default(),
        edited: row.get("edited"),
        approval: approval(row)?,
        outcome,
        permit_bytes: row.get("permit_bytes"),
        ..action(row)?
    })
}
