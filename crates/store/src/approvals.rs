//! Approval requests.

use chrono::{DateTime, Utc};
use countersign_core::ids::{ActionId, ApprovalId};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use crate::StoreError;

/// A request to be opened.
#[derive(Clone, Debug)]
pub struct NewApproval {
    /// Its id.
    pub id: ApprovalId,
    /// What is to be approved.
    pub action: ActionId,
    /// Who may decide.
    pub group: String,
    /// Which rule asks.
    pub rule: String,
    /// Why.
    pub rule_text: String,
    /// When it runs out.
    pub expires_at: DateTime<Utc>,
}

/// Opens requests. An action that is asked about again gets a new request in the old one's place.
pub async fn open(tx: &Transaction<'_>, rows: &[NewApproval]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO approvals (id, action, group_name, rule, rule_text, state, opened_at, expires_at)
             SELECT id, action, group_name, rule, rule_text, 'open', clock_timestamp(), expires_at
             FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
               AS u (id, action, group_name, rule, rule_text, expires_at)
             ON CONFLICT (action) DO UPDATE SET
               id = EXCLUDED.id, group_name = EXCLUDED.group_name, rule = EXCLUDED.rule,
               rule_text = EXCLUDED.rule_text, state = 'open', opened_at = EXCLUDED.opened_at,
               expires_at = EXCLUDED.expires_at, published_at = now(),
               decided_by = NULL, reason = NULL, decided_at = NULL",
        )
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let groups: Vec<&str> = rows.iter().map(|row| row.group.as_str()).collect();
    let rules: Vec<&str> = rows.iter().map(|row| row.rule.as_str()).collect();
    let texts: Vec<&str> = rows.iter().map(|row| row.rule_text.as_str()).collect();
    let expires: Vec<DateTime<Utc>> = rows.iter().map(|row| row.expires_at).collect();
    tx.execute(&statement, &[&ids, &actions, &groups, &rules, &texts, &expires]).await?;
    Ok(())
}

/// How a request ended.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Whose request.
    pub action: ActionId,
    /// `approved`, `rejected`, `expired` or `closed`.
    pub state: &'static str,
    /// Who decided, if a human did.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Ends requests. One that is not open stays as it is.
pub async fn close(tx: &Transaction<'_>, rows: &[Closed]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = tx
        .prepare_cached(
            "UPDATE approvals p SET state = u.state, decided_by = u.decided_by, reason = u.reason,
                    decided_at = clock_timestamp()
             FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[]) AS u (action, state, decided_by, reason)
             WHERE p.action = u.action AND p.state = 'open'",
        )
        .await?;
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let states: Vec<&str> = rows.iter().map(|row| row.state).collect();
    let deciders: Vec<Option<&str>> = rows.iter().map(|row| row.by.as_deref()).collect();
    let reasons: Vec<Option<&str>> = rows.iter().map(|row| row.reason.as_deref()).collect();
    tx.execute(&statement, &[&actions, &states, &deciders, &reasons]).await?;
    Ok(())
}

/// Which actions these requests are about. Requests that are not there, or no longer, are left out.
pub async fn actions_of(
    tx: &Transaction<'_>,
    ids: &[ApprovalId],
) -> Result<Vec<(ApprovalId, ActionId)>, StoreError> {
    let statement = tx.prepare_cached("SELECT id, action FROM approvals WHERE id = ANY($1)").await?;
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = tx.query(&statement, &[&ids]).await?;
    Ok(rows.iter().map(|row| (ApprovalId(row.get(0)), ActionId(row.get(1)))).collect())
}

/// Notes that open requests were published again.
pub async fn published(tx: &Transaction<'_>, actions: &[ActionId]) -> Result<(), StoreError> {
    let actions: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    let sql = "UPDATE approvals SET published_at = now() WHERE action = ANY($1) AND state = 'open'";
    tx.execute(sql, &[&actions]).await?;
    Ok(())
}
