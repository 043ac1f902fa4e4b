//! Approval requests and the decisions on them.

use chrono::{DateTime, Utc};
use countersign_core::{
    approval::{ApprovalSpec, RequestState},
    ids::{ActionId, ApprovalId},
    message::Decision,
};
use uuid::Uuid;

use crate::{Pipeline, StoreError, Transaction, transaction::parameters};

/// A request to be stored.
#[derive(Clone, Debug)]
pub struct ApprovalRow {
    /// Its id. A new request for the same action replaces the old one under a new id.
    pub id: ApprovalId,
    /// The action to be approved.
    pub action: ActionId,
    /// The rule that requires approval.
    pub rule: String,
    /// Why the rule requires it.
    pub rule_text: String,
    /// Its requirements.
    pub spec: ApprovalSpec,
    /// Its state.
    pub state: RequestState,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// The groups to which it has escalated, according to the evidence.
    pub escalated: Vec<String>,
}

/// Saves requests of locked actions, one per action.
pub async fn save<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    rows: &[&'a ApprovalRow],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = include_str!("sql/save_approvals.sql");
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let rules: Vec<&str> = rows.iter().map(|row| row.rule.as_str()).collect();
    let texts: Vec<&str> = rows.iter().map(|row| row.rule_text.as_str()).collect();
    let specs: Vec<serde_json::Value> =
        rows.iter().map(|row| serde_json::to_value(&row.spec).unwrap_or_default()).collect();
    let states: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
    let opened: Vec<DateTime<Utc>> = rows.iter().map(|row| row.opened_at).collect();
    let expires: Vec<DateTime<Utc>> = rows.iter().map(|row| row.expires_at).collect();
    // Names of groups hold no comma, and an array of arrays would have to be rectangular.
    let escalated: Vec<String> = rows.iter().map(|row| row.escalated.join(",")).collect();
    writes
        .add(tx, sql, parameters![ids, actions, rules, texts, specs, states, opened, expires, escalated])
        .await
}

/// One person's decision on one content.
#[derive(Clone, Debug)]
pub struct DecisionRow {
    /// The action.
    pub action: ActionId,
    /// The content that the reviewer saw.
    pub digest: Vec<u8>,
    /// The reviewer.
    pub reviewer: String,
    /// The decision.
    pub decision: Decision,
    /// The key that signed it.
    pub kid: String,
    /// When it was signed, as the signed statement says.
    pub signed_at: DateTime<Utc>,
    /// The request that it answers.
    pub approval: ApprovalId,
    /// The id of the event that carried it.
    pub event: String,
    /// Why, for programs.
    pub reason_code: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
    /// When it was applied.
    pub decided_at: DateTime<Utc>,
}

/// Records decisions. While a request is open, a person's later decision on a content counts, by when it was signed.
pub async fn insert_decisions<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    rows: &'a [DecisionRow],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO decisions (action, digest, reviewer, decision, kid, approval, event, reason_code, reason, decided_at, signed_at)
             SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::uuid[],
                                  $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[])
             ON CONFLICT DO NOTHING";
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let digests: Vec<&[u8]> = rows.iter().map(|row| row.digest.as_slice()).collect();
    let reviewers: Vec<&str> = rows.iter().map(|row| row.reviewer.as_str()).collect();
    let decisions: Vec<&str> = rows.iter().map(|row| row.decision.as_str()).collect();
    let kids: Vec<&str> = rows.iter().map(|row| row.kid.as_str()).collect();
    let approvals: Vec<Uuid> = rows.iter().map(|row| row.approval.0).collect();
    let events: Vec<&str> = rows.iter().map(|row| row.event.as_str()).collect();
    let codes: Vec<Option<&str>> = rows.iter().map(|row| row.reason_code.as_deref()).collect();
    let reasons: Vec<Option<&str>> = rows.iter().map(|row| row.reason.as_deref()).collect();
    let times: Vec<DateTime<Utc>> = rows.iter().map(|row| row.decided_at).collect();
    let signed: Vec<DateTime<Utc>> = rows.iter().map(|row| row.signed_at).collect();
    writes
        .add(
            tx,
            sql,
            parameters![
                actions, digests, reviewers, decisions, kids, approvals, events, codes, reasons, times,
                signed
            ],
        )
        .await
}

/// The actions that these requests are, or were, about. Unknown requests are left out.
pub async fn actions_of(
    tx: &Transaction,
    ids: &[ApprovalId],
) -> Result<Vec<(ApprovalId, ActionId)>, StoreError> {
    let sql = "SELECT id, action FROM approvals WHERE id = ANY($1)
               UNION ALL
               SELECT before, action FROM approvals, unnest(replaced) before
               WHERE replaced <> '{}' AND replaced && $1 AND before = ANY($1)";
    let statement = tx.prepare_cached(sql).await?;
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = tx.query(&statement, &[&ids]).await?;
    Ok(rows.iter().map(|row| (ApprovalId(row.get(0)), ActionId(row.get(1)))).collect())
}

/// Marks open requests as published now.
pub async fn published(tx: &Transaction, actions: &[ActionId]) -> Result<(), StoreError> {
    let actions: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    let sql = "UPDATE approvals SET published_at = now() WHERE action = ANY($1) AND state = 'open'";
    tx.execute(sql, &[&actions]).await?;
    Ok(())
}
