//! Sampling draws.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use countersign_core::{
    audit::ForcedReason,
    ids::{ActionId, ActionRef},
    keyed::Draw,
};
use countersign_statistics::switching::PlanState;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{StoreError, Transaction};

/// A draw to be stored.
#[derive(Clone, Debug)]
pub struct NewDraw {
    /// The action that it is for.
    pub action: ActionId,
    /// The epoch whose key was used.
    pub epoch: i64,
    /// The stratum.
    pub stratum: String,
    /// π, R and whether it was selected.
    pub draw: Draw,
    /// π before capacity.
    pub wanted: f64,
    /// Why π is 1 regardless of the rule, and the cap on such audits.
    pub forced: Option<(ForcedReason, Option<u32>)>,
    /// Whether its tool was called; rejected and denied actions are drawn too, and counted separately.
    pub executed: bool,
}

/// Stores draws; an action that has one keeps it. Returns the actions whose draw is new.
pub async fn insert(tx: &Transaction, rows: &[NewDraw]) -> Result<Vec<ActionId>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO sampling (action, epoch, stratum, pi, r, selected, forced, wanted, cap, executed)
             SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::float8[], $5::bigint[], $6::bool[],
                                  $7::text[], $8::float8[], $9::bigint[], $10::bool[])
             ON CONFLICT (action) DO NOTHING RETURNING action",
        )
        .await?;
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let epochs: Vec<i64> = rows.iter().map(|row| row.epoch).collect();
    let strata: Vec<&str> = rows.iter().map(|row| row.stratum.as_str()).collect();
    let pis: Vec<f64> = rows.iter().map(|row| row.draw.pi).collect();
    // 56 bits fit a signed 64-bit number.
    let rs: Vec<i64> = rows.iter().map(|row| i64::try_from(row.draw.r).unwrap_or(i64::MAX)).collect();
    let selected: Vec<bool> = rows.iter().map(|row| row.draw.selected).collect();
    let forced: Vec<Option<&str>> =
        rows.iter().map(|row| row.forced.map(|forced| forced.0.as_str())).collect();
    let wanted: Vec<f64> = rows.iter().map(|row| row.wanted).collect();
    let cap = |row: &NewDraw| row.forced.and_then(|forced| forced.1).map(i64::from);
    let caps: Vec<Option<i64>> = rows.iter().map(cap).collect();
    let executed: Vec<bool> = rows.iter().map(|row| row.executed).collect();
    let new = tx
        .query(
            &statement,
            &[&actions, &epochs, &strata, &pis, &rs, &selected, &forced, &wanted, &caps, &executed],
        )
        .await?;
    Ok(new.iter().map(|row| ActionId(row.get(0))).collect())
}

/// Those of these actions that have a draw.
pub async fn drawn(tx: &Transaction, actions: &[ActionId]) -> Result<HashSet<ActionId>, StoreError> {
    let ids: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    let statement = tx.prepare_cached("SELECT action FROM sampling WHERE action = ANY($1)").await?;
    Ok(tx.query(&statement, &[&ids]).await?.iter().map(|row| ActionId(row.get(0))).collect())
}

/// A stored draw with what is needed to check it.
#[derive(Clone, Debug)]
pub struct StoredDraw {
    /// The action.
    pub action: ActionId,
    /// The proposal's `source` and `id`: the input of the draw.
    pub reference: ActionRef,
    /// π, R and whether it was selected.
    pub draw: Draw,
    /// Whether there is an audit of it, other than in a look-back.
    pub audited: bool,
    /// Whether a gold item was to follow.
    pub gold: bool,
    /// π before a lack of auditors lowered it.
    pub wanted: f64,
    /// Why it was 1 whatever the rule said.
    pub forced: Option<ForcedReason>,
    /// Whether its tool was called, as the draw has it.
    pub executed: bool,
    /// Whether its tool was called, as the action has it.
    pub called: bool,
    /// The rule that decided on it.
    pub rule: String,
    /// The audit rate that its evaluation led to.
    pub rate: f64,
    /// The score that its evaluation gave it, where its rule had one.
    pub score: Option<f64>,
    /// Whether people have approved it.
    pub approved: bool,
    /// The group that audits it.
    pub group: String,
    /// The state of its sampling plan, if it has one.
    pub plan_state: Option<PlanState>,
    /// When it was accepted.
    pub proposed_at: DateTime<Utc>,
}

/// A page of the draws of an epoch, in order of their actions' ids, after `after`.
pub async fn of_epoch(
    tx: &Transaction,
    epoch: i64,
    after: Option<ActionId>,
    limit: i64,
) -> Result<Vec<StoredDraw>, StoreError> {
    let sql = "SELECT s.action, a.source, a.event_id, s.pi, s.r, s.selected,
                      EXISTS (SELECT FROM audits u WHERE u.action = s.action AND u.reason <> 'look_back'),
                      s.wanted, s.forced, s.executed, a.rule, a.audit_rate, a.audit_group, a.plan_state, a.proposed_at, a.started_at IS NOT NULL,
                      EXISTS (SELECT FROM gold_draws g WHERE g.action = s.action), a.audit_score, cardinality(a.approvers) > 0
               FROM sampling s JOIN actions a ON a.id = s.action
               WHERE s.epoch = $1 AND ($2::uuid IS NULL OR s.action > $2) ORDER BY s.action LIMIT $3";
    let after = after.map(|action| action.0);
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&epoch, &after, &limit]).await?;
    rows.iter().map(stored).collect()
}

fn stored(row: &Row) -> Result<StoredDraw, StoreError> {
    let forced = row.get::<_, Option<&str>>(8).map(str::parse).transpose();
    let plan_state = row.get::<_, Option<&str>>(13).map(str::parse).transpose();
    Ok(StoredDraw {
        action: ActionId(row.get(0)),
        reference: ActionRef { source: row.get(1), id: row.get(2) },
        draw: Draw {
            pi: row.get(3),
            r: u64::try_from(row.get::<_, i64>(4)).unwrap_or_default(),
            selected: row.get(5),
        },
        audited: row.get(6),
        wanted: row.get(7),
        forced: forced.map_err(StoreError::Corrupt)?,
        executed: row.get(9),
        rule: row.get(10),
        rate: row.get(11),
        group: row.get(12),
        plan_state: plan_state.map_err(StoreError::Corrupt)?,
        proposed_at: row.get(14),
        called: row.get(15),
        gold: row.get(16),
        score: row.get(17),
        approved: row.get(18),
    })
}

/// Executed actions that have no draw although they ended before this epoch did, and not before the one before it: how many,
/// and the first `limit` of them.
pub async fn undrawn(tx: &Transaction, epoch: i64, limit: i64) -> Result<(u64, Vec<ActionId>), StoreError> {
    let sql = "SELECT a.id, count(*) OVER ()
               FROM epochs e JOIN actions a ON a.ended_at < e.ends_at AND a.started_at IS NOT NULL
                AND a.ended_at >= coalesce((SELECT max(b.ends_at) FROM epochs b WHERE b.epoch < e.epoch), '-infinity')
               WHERE e.epoch = $1 AND NOT EXISTS (SELECT FROM sampling s WHERE s.action = a.id)
               ORDER BY a.id LIMIT $2";
    let rows = tx.query(sql, &[&epoch, &limit]).await?;
    let all = rows.first().map_or(0, |row| u64::try_from(row.get::<_, i64>(1)).unwrap_or_default());
    Ok((all, rows.iter().map(|row| ActionId(row.get(0))).collect()))
}
