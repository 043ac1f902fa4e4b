//! Actions: taken in once, read with what belongs to them, moved by whoever holds their lock.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use countersign_core::{
    action::State,
    approval::Request,
    config::Verdict,
    ids::{ActionId, ActionRef, ApprovalId, PermitId},
    message::{Decision, Failure},
    stats::switching::Stage,
};
use deadpool_postgres::Transaction;
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::{Row, Statement, types::ToSql};
use uuid::Uuid;

use crate::StoreError;

/// What a judgement says of an action.
#[derive(Clone, Debug)]
pub struct Ruling {
    /// Where the action stands now.
    pub state: State,
    /// The policy's verdict.
    pub verdict: Verdict,
    /// The rule that gave it.
    pub rule: String,
    /// The generation it was judged under.
    pub generation: i64,
    /// The policy's version.
    pub policy_version: String,
    /// Inclusion probability of an audit, should it be executed.
    pub audit_rate: f64,
    /// Who audits it.
    pub audit_group: String,
    /// What it is compared with.
    pub stratum: String,
    /// Where its class stood, where its rule moves between approval and audit.
    pub stage: Option<Stage>,
    /// Whether a human has approved exactly what is stored.
    pub approved: bool,
    /// Who.
    pub approvers: Vec<String>,
    /// The permit that is out, where the state has one.
    pub permit: Option<PermitId>,
}

/// An action to be taken in.
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
    /// The agent's earlier action in whose place it comes.
    pub supersedes: Option<ActionId>,
    /// The action that it undoes.
    pub compensates: Option<ActionId>,
    /// What the router decided.
    pub ruling: Ruling,
}

/// The approval request of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalRecord {
    /// Its id.
    pub id: ApprovalId,
    /// Which rule asks.
    pub rule: String,
    /// Why they are asked.
    pub rule_text: String,
    /// What it asks for, where it stands, and who has decided on the content as it is now.
    pub request: Request,
    /// The groups to which it has escalated, as evidence says.
    pub escalated: Vec<String>,
    /// By person, the keys that signed what they decided.
    pub keys: BTreeMap<String, BTreeSet<String>>,
}

/// A decision on the content as it is now.
#[derive(Deserialize)]
struct Vote {
    reviewer: String,
    decision: Decision,
    kid: String,
}

/// How an action ended.
#[derive(Clone, Debug)]
pub struct OutcomeRecord {
    /// 1, or 2 for what a human found of one in doubt.
    pub seq: i16,
    /// The id of the event that tells it.
    pub event: Uuid,
    /// The tool's answer, as JSON.
    pub result: Option<Vec<u8>>,
    /// Why it did not succeed.
    pub error: Option<Failure>,
}

/// An action with what belongs to it: what was not asked for ([`Parts`]) is empty.
#[derive(Clone, Debug)]
pub struct ActionRecord {
    /// Its id.
    pub id: ActionId,
    /// As its agent calls it.
    pub reference: ActionRef,
    /// The agent's id in the directory.
    pub agent: String,
    /// The tool.
    pub tool: String,
    /// What it was judged to be, and where it stands.
    pub ruling: Ruling,
    /// Counts claims.
    pub fence: i32,
    /// Whether it is executing and the claim's lease has run out.
    pub interrupted: bool,
    /// Whether its agent has withdrawn it; known where bodies were asked for.
    pub cancelled: bool,
    /// After this it is not executed.
    pub expires_at: Option<DateTime<Utc>>,
    /// The action that it undoes.
    pub compensates: Option<ActionId>,
    /// The router accepted it.
    pub proposed_at: DateTime<Utc>,
    /// A human decided.
    pub decided_at: Option<DateTime<Utc>>,
    /// An executor claimed it.
    pub started_at: Option<DateTime<Utc>>,
    /// Its outcome was recorded.
    pub ended_at: Option<DateTime<Utc>>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The message as received, where it was asked for or a human is to see it.
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
    /// The bytes of the permit that is out.
    pub permit_bytes: Option<Vec<u8>>,
    /// The database's clock when it was read.
    pub now: DateTime<Utc>,
}

/// Takes in actions whose (source, id) is new. Returns the ids of those that were.
///
/// Callers sort by reference, so that two routers with the same proposals do not wait for each other in a ring.
pub async fn insert(tx: &Transaction<'_>, rows: &[NewAction]) -> Result<Vec<ActionId>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let statement = tx.prepare_cached(include_str!("sql/insert_actions.sql")).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
    let sources: Vec<&str> = rows.iter().map(|row| row.reference.source.as_str()).collect();
    let event_ids: Vec<&str> = rows.iter().map(|row| row.reference.id.as_str()).collect();
    let agents: Vec<&str> = rows.iter().map(|row| row.agent.as_str()).collect();
    let tools: Vec<&str> = rows.iter().map(|row| row.tool.as_str()).collect();
    let states: Vec<&str> = rows.iter().map(|row| row.ruling.state.as_str()).collect();
    let verdicts: Vec<&str> = rows.iter().map(|row| row.ruling.verdict.as_str()).collect();
    let rules: Vec<&str> = rows.iter().map(|row| row.ruling.rule.as_str()).collect();
    let generations: Vec<i64> = rows.iter().map(|row| row.ruling.generation).collect();
    let versions: Vec<&str> = rows.iter().map(|row| row.ruling.policy_version.as_str()).collect();
    let rates: Vec<f64> = rows.iter().map(|row| row.ruling.audit_rate).collect();
    let groups: Vec<&str> = rows.iter().map(|row| row.ruling.audit_group.as_str()).collect();
    let permits: Vec<Option<Uuid>> = rows.iter().map(|row| row.ruling.permit.map(|id| id.0)).collect();
    let expires: Vec<Option<DateTime<Utc>>> = rows.iter().map(|row| row.expires_at).collect();
    let traces: Vec<Option<&str>> = rows.iter().map(|row| row.traceparent.as_deref()).collect();
    let supersedes: Vec<Option<Uuid>> = rows.iter().map(|row| row.supersedes.map(|id| id.0)).collect();
    let compensates: Vec<Option<Uuid>> = rows.iter().map(|row| row.compensates.map(|id| id.0)).collect();
    let strata: Vec<&str> = rows.iter().map(|row| row.ruling.stratum.as_str()).collect();
    let stages: Vec<Option<&str>> = rows.iter().map(|row| row.ruling.stage.map(Stage::as_str)).collect();
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
                &stages,
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
pub async fn find(tx: &Transaction<'_>, references: &[&ActionRef]) -> Result<Vec<Known>, StoreError> {
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
pub async fn lock(tx: &Transaction<'_>, ids: &[ActionId]) -> Result<(), StoreError> {
    tx.query(&lock_statement(tx).await?, &[&uuids(ids)]).await?;
    Ok(())
}

/// What [`lock`] asks, of an array of ids: for those who send it together with what they do under the lock.
pub(crate) async fn lock_statement(tx: &Transaction<'_>) -> Result<Statement, StoreError> {
    Ok(tx.prepare_cached("SELECT 1 FROM actions WHERE id = ANY($1) ORDER BY id FOR UPDATE").await?)
}

/// Locks actions until the transaction ends, and reads them as they are under the lock, in one trip.
pub async fn lock_and_load(
    tx: &Transaction<'_>,
    ids: &[ActionId],
    parts: Parts,
) -> Result<Vec<ActionRecord>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (lock, load) = (lock_statement(tx).await?, load_statement(tx).await?);
    let (ids, parts) = (uuids(ids), parts as i32);
    let locked: [&(dyn ToSql + Sync); 1] = [&ids];
    let loaded: [&(dyn ToSql + Sync); 2] = [&ids, &parts];
    // What is prepared is sent when it is first polled, so the server has them in this order, each with a snapshot of its own.
    let (_, rows) = tokio::try_join!(biased; tx.query(&lock, &locked), tx.query(&load, &loaded))?;
    rows.iter().map(record).collect()
}

/// How much is read of what belongs to an action: each has what those before it have. The rest is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// The action and its outcome.
    Outcome = 0,
    /// What was asked for: content, digests, edits.
    Content = 1,
    /// The approval request and the permit that is out; the message as received where a human is about to see it.
    Request = 2,
    /// Every message as received, and whether its agent has withdrawn it.
    Bodies = 3,
}

/// Reads actions with these parts of what belongs to them, in id order.
pub async fn load(
    tx: &Transaction<'_>,
    ids: &[ActionId],
    parts: Parts,
) -> Result<Vec<ActionRecord>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = load_statement(tx).await?;
    tx.query(&statement, &[&uuids(ids), &(parts as i32)]).await?.iter().map(record).collect()
}

async fn load_statement(tx: &Transaction<'_>) -> Result<Statement, StoreError> {
    Ok(tx.prepare_cached(include_str!("sql/load_actions.sql")).await?)
}

fn uuids(ids: &[ActionId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}

fn word<T: std::str::FromStr>(row: &Row, column: &str) -> Result<T, StoreError> {
    let text: &str = row.get(column);
    text.parse().map_err(|_| StoreError::Corrupt(format!("{text:?} is no {column}")))
}

fn approval(row: &Row) -> Result<Option<ApprovalRecord>, StoreError> {
    let Some(id) = row.get::<_, Option<Uuid>>("approval").map(ApprovalId) else { return Ok(None) };
    let corrupt = |what: &str| StoreError::Corrupt(format!("the {what} of approval {id} cannot be read"));
    let digest: &[u8] = row.get("digest");
    let votes: Vec<Vote> = match row.get::<_, Option<Value>>("votes") {
        Some(votes) => serde_json::from_value(votes).map_err(|_| corrupt("decisions"))?,
        None => vec![],
    };
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut last: BTreeMap<String, Decision> = BTreeMap::new();
    for vote in votes {
        // A person decides otherwise only where the key of what they decided before no longer counts.
        let before = last.insert(vote.reviewer.clone(), vote.decision);
        let kids = keys.entry(vote.reviewer).or_default();
        if before.is_some_and(|before| before != vote.decision) {
            kids.clear();
        }
        kids.insert(vote.kid);
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
            state: word(row, "approval_state")?,
            votes: last,
        },
        escalated: row.get("escalated"),
        keys,
    }))
}

fn record(row: &Row) -> Result<ActionRecord, StoreError> {
    let approval = approval(row)?;
    let outcome = row.get::<_, Option<Uuid>>("outcome_event").map(|event| OutcomeRecord {
        event,
        seq: row.get("seq"),
        result: row.get("result"),
        error: row.get::<_, Option<String>>("error_code").map(|code| Failure {
            code,
            message: row.get::<_, Option<String>>("error_message").unwrap_or_default(),
        }),
    });
    Ok(ActionRecord {
        id: ActionId(row.get("id")),
        reference: ActionRef { source: row.get("source"), id: row.get("event_id") },
        agent: row.get("agent"),
        tool: row.get("tool"),
        ruling: Ruling {
            state: word(row, "state")?,
            verdict: word(row, "verdict")?,
            rule: row.get("rule"),
            generation: row.get("generation"),
            policy_version: row.get("policy_version"),
            audit_rate: row.get("audit_rate"),
            audit_group: row.get("audit_group"),
            stratum: row.get("stratum"),
            stage: row.get::<_, Option<&str>>("stage").and_then(|stage| stage.parse().ok()),
            approved: row.get("approved"),
            approvers: row.get("approvers"),
            permit: row.get::<_, Option<Uuid>>("permit").map(PermitId),
        },
        fence: row.get("fence"),
        interrupted: row.get("interrupted"),
        cancelled: row.get("cancelled"),
        expires_at: row.get("expires_at"),
        compensates: row.get::<_, Option<Uuid>>("compensates").map(ActionId),
        proposed_at: row.get("proposed_at"),
        decided_at: row.get("decided_at"),
        started_at: row.get("started_at"),
        ended_at: row.get("ended_at"),
        traceparent: row.get("traceparent"),
        body: row.get("body"),
        content: row.get("content"),
        salt: row.get::<_, Option<_>>("salt").unwrap_or_default(),
        digest: row.get::<_, Option<_>>("digest").unwrap_or_default(),
        edited: row.get("edited"),
        approval,
        outcome,
        permit_bytes: row.get("permit_bytes"),
        now: row.get("now"),
    })
}

/// Writes new rulings of locked actions. `decided` marks those that a human decided just now.
pub async fn rule(tx: &Transaction<'_>, rows: &[(ActionId, &Ruling, bool)]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = tx.prepare_cached(include_str!("sql/rule_actions.sql")).await?;
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
    let stages: Vec<Option<&str>> = rows.iter().map(|row| row.1.stage.map(Stage::as_str)).collect();
    tx.execute(
        &statement,
        &[
            &ids,
            &states,
            &verdicts,
            &rules,
            &generations,
            &versions,
            &rates,
            &groups,
            &approved,
            &approvers,
            &permits,
            &decided,
            &ended,
            &strata,
            &stages,
        ],
    )
    .await?;
    Ok(())
}
