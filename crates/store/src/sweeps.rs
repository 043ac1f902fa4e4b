//! What is overdue. A sweep only finds candidates; the owner of the transition checks them again under the lock.

use countersign_core::ids::{ActionId, AuditId};
use uuid::Uuid;

use crate::{StoreError, Transaction};

/// The most that one query finds; the next sweep finds the rest.
pub const SWEEP_MAX: i64 = 2_000;

async fn actions(tx: &Transaction, sql: &str, seconds: f64) -> Result<Vec<ActionId>, StoreError> {
    let statement = tx.prepare_cached(sql).await?;
    let rows = tx.query(&statement, &[&seconds, &SWEEP_MAX]).await?;
    Ok(rows.iter().map(|row| ActionId(row.get(0))).collect())
}

/// Actions to be evaluated again: out of time, authorised but unclaimed for `unclaimed_seconds`, or evaluated under an
/// older generation and not claimed yet.
pub async fn to_reevaluate(tx: &Transaction, unclaimed_seconds: f64) -> Result<Vec<ActionId>, StoreError> {
    actions(tx, include_str!("sql/sweep_reevaluate.sql"), unclaimed_seconds).await
}

/// Pending actions whose open request was last published more than `seconds` ago, or has escalated to a group that has
/// not been notified.
pub async fn to_request(tx: &Transaction, seconds: f64) -> Result<Vec<ActionId>, StoreError> {
    let sql = "SELECT action FROM approvals
               WHERE state = 'open' AND expires_at > now()
                 AND (published_at < now() - make_interval(secs => $1)
                      OR EXISTS (SELECT FROM jsonb_array_elements(spec -> 'escalate') step
                                 WHERE opened_at + make_interval(secs => (step ->> 'after')::float8) <= now()
                                   AND step ->> 'also' <> ALL (escalated)))
               ORDER BY expires_at LIMIT $2";
    actions(tx, sql, seconds).await
}

/// Claims whose lease expired more than `seconds` ago.
pub async fn to_recover(tx: &Transaction, seconds: f64) -> Result<Vec<ActionId>, StoreError> {
    let sql = "SELECT id FROM actions
               WHERE ended_at IS NULL AND state = 'executing' AND lease_until < now() - make_interval(secs => $1)
               ORDER BY state_at LIMIT $2";
    actions(tx, sql, seconds).await
}

/// Executed actions that ended more than `seconds` ago and have no sampling draw: their settled pack may be lost.
///
/// Scans only what ended after a mark, and advances the mark behind it. The mark stays ten minutes back: the session's
/// limits end any transaction that sets `ended_at` sooner. If `reach` is given, it goes back only `reach` seconds
/// further than `seconds`.
pub async fn to_draw(
    tx: &Transaction,
    seconds: f64,
    reach: Option<f64>,
) -> Result<Vec<ActionId>, StoreError> {
    let sql = "SELECT a.id FROM actions a
               WHERE a.started_at IS NOT NULL AND a.ended_at IS NOT NULL
                 AND a.ended_at BETWEEN coalesce(now() - make_interval(secs => $1::float8 + $3::float8),
                                                 (SELECT at FROM sweep_marks WHERE name = 'drawn'))
                                    AND now() - make_interval(secs => $1)
                 AND NOT EXISTS (SELECT 1 FROM sampling s WHERE s.action = a.id)
               ORDER BY a.ended_at LIMIT $2";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&seconds, &SWEEP_MAX, &reach]).await?;
    let found: Vec<ActionId> = rows.iter().map(|row| ActionId(row.get(0))).collect();
    if found.is_empty() && reach.is_none() {
        let sql = "UPDATE sweep_marks SET at = now() - make_interval(secs => $1) - interval '10 minutes'
                   WHERE name = 'drawn' AND at < now() - make_interval(secs => $1) - interval '11 minutes'";
        tx.execute(sql, &[&seconds]).await?;
    }
    Ok(found)
}

/// Open audits, and gold items among them, that were last published more than `seconds` ago.
pub async fn to_audit(tx: &Transaction, seconds: f64) -> Result<Vec<AuditId>, StoreError> {
    let sql = "SELECT id FROM
                 (SELECT id, published_at FROM audits
                  WHERE state = 'open' AND published_at < now() - make_interval(secs => $1)
                  UNION ALL SELECT id, published_at FROM gold_items
                            WHERE state = 'open' AND published_at < now() - make_interval(secs => $1)) late
               ORDER BY published_at LIMIT $2";
    let statement = tx.prepare_cached(sql).await?;
    let rows = tx.query(&statement, &[&seconds, &SWEEP_MAX]).await?;
    Ok(rows.iter().map(|row| AuditId(row.get::<_, Uuid>(0))).collect())
}
