//! Sampling plans, which move strata between approval and audit. Their states are part of the active generation.

mod change;
mod window;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
pub use countersign_core::evidence::PlanCounts;
use countersign_core::{
    evidence::{Event, SamplingPlanOpened},
    stratum::{family_of, shared},
};
use countersign_statistics::switching::{AgentCounters, PlanState, SwitchingState};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Row, types::Json};

pub use self::change::{
    FamilyRecord, PlanMove, PlanRecord, change, families_of, lock_family, pin, records, save_counters,
    save_states, uncleared,
};
pub use self::window::{CountedDraw, Waiting, count_draws, count_findings, waiting, window};
use crate::{
    StoreError, Transaction,
    evidence::{self, Evidence},
};

/// How many strata of one rule, tool and agent have sampling plans of their own: an agent chooses its versions and
/// bands, and all plans are read with each generation. The others share one plan.
pub const STRATA_MAX: usize = 256;

/// A plan and its state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SamplingPlan {
    /// Its stratum.
    pub stratum: String,
    /// The rule.
    pub rule: String,
    /// The agent.
    pub agent: String,
    /// Its state.
    pub state: PlanState,
}

fn plan_state(row: &Row, column: &str) -> Result<PlanState, StoreError> {
    row.get::<_, &str>(column).parse().map_err(StoreError::Corrupt)
}

/// The states of all plans, by stratum. Read after the generation is locked.
pub async fn plans(tx: &Transaction) -> Result<Vec<(String, PlanState)>, StoreError> {
    let rows = tx.query("SELECT stratum, plan_state FROM sampling_plans", &[]).await?;
    rows.iter().map(|row| Ok((row.get("stratum"), plan_state(row, "plan_state")?))).collect()
}

/// Opens plans that do not exist yet, in their states under this generation, and writes the evidence. A family has
/// [`STRATA_MAX`] slots, and each plan takes the next one: what finds none, or finds it taken meanwhile by another
/// transaction, is not opened.
pub async fn open(tx: &Transaction, generation: i64, plans: &[SamplingPlan]) -> Result<(), StoreError> {
    if plans.is_empty() {
        return Ok(());
    }
    let texts =
        |pick: fn(&SamplingPlan) -> &str| plans.iter().map(pick).map(str::to_owned).collect::<Vec<_>>();
    let (strata, rules) = (texts(|plan| &plan.stratum), texts(|plan| &plan.rule));
    let families = texts(|plan| family_of(&plan.stratum));
    let sql = "INSERT INTO plan_families (family, rule, agent, counters, since)
               SELECT DISTINCT family, rule, agent, $4::jsonb, $5::bigint
               FROM UNNEST($1::text[], $2::text[], $3::text[]) AS u (family, rule, agent) ORDER BY family
               ON CONFLICT DO NOTHING";
    let counters = Json(AgentCounters::default());
    let agents = texts(|plan| &plan.agent);
    tx.execute(&tx.prepare_cached(sql).await?, &[&families, &rules, &agents, &counters, &generation]).await?;
    let states: Vec<Json<SwitchingState>> =
        plans.iter().map(|plan| Json(SwitchingState::new(plan.state))).collect();
    let is_shared: Vec<bool> =
        plans.iter().map(|plan| plan.stratum == shared(family_of(&plan.stratum))).collect();
    let slots = i64::try_from(STRATA_MAX).unwrap_or(i64::MAX);
    let opened = tx
        .query(
            &tx.prepare_cached(include_str!("sql/open_sampling_plans.sql")).await?,
            &[
                &strata,
                &families,
                &rules,
                &texts(|plan| plan.state.as_str()),
                &states,
                &is_shared,
                &generation,
                &slots,
            ],
        )
        .await?;
    let noted = |row: &Row| SamplingPlanOpened { stratum: row.get(0), plan_state: row.get(1) };
    let noted = opened.iter().map(|row| Evidence::global(Event::SamplingPlanOpened(noted(row))));
    evidence::insert(tx, &noted.collect::<Vec<_>>()).await
}

/// The counts of these plans since they last left pre-approval; those without any are left out.
async fn seen(tx: &Transaction, strata: &[&str]) -> Result<HashMap<String, PlanCounts>, StoreError> {
    let sql = "SELECT p.stratum, count(*), count(*) FILTER (WHERE u.state = 'judged'),
                      count(*) FILTER (WHERE u.finding = 'wrong')
               FROM sampling_plans p JOIN sampling s USING (stratum)
               JOIN actions a ON a.id = s.action AND a.generation >= p.since
               LEFT JOIN audits u ON u.action = s.action AND s.selected
               WHERE p.stratum = ANY($1) AND s.executed AND a.verdict = 'allow' GROUP BY p.stratum";
    let rows = tx.query(sql, &[&strata]).await?;
    let count = |row: &Row, index: usize| u64::try_from(row.get::<_, i64>(index)).unwrap_or_default();
    let counts =
        |row: &Row| PlanCounts { executed: count(row, 1), audited: count(row, 2), wrong: count(row, 3) };
    Ok(rows.iter().map(|row| (row.get(0), counts(row))).collect())
}

/// A plan in a list.
#[derive(Clone, Debug, Serialize)]
pub struct PlanSummary {
    /// Its stratum.
    pub stratum: String,
    /// The rule.
    pub rule: String,
    /// Its state with its counters.
    pub switching: SwitchingState,
    /// When its state last changed.
    pub changed_at: DateTime<Utc>,
    /// Its counts since it last left pre-approval.
    pub seen: PlanCounts,
    /// Who pinned it.
    pub pinned_by: Option<String>,
    /// Why it is pinned.
    pub pinned_for: Option<String>,
    /// The reason for its state; absent if that never changed.
    pub reason: Option<String>,
}

/// All plans, by stratum.
pub async fn list(tx: &Transaction) -> Result<Vec<PlanSummary>, StoreError> {
    let sql = "SELECT stratum, rule, switching_state, changed_at, pinned_by, pinned_for,
                      (SELECT reason FROM plan_changes w WHERE w.stratum = s.stratum ORDER BY id DESC LIMIT 1)
               FROM sampling_plans s ORDER BY stratum";
    let rows = tx.query(sql, &[]).await?;
    let strata: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let mut counts = seen(tx, &strata).await?;
    let summary = |row: &Row| {
        let stratum: String = row.get(0);
        PlanSummary {
            seen: counts.remove(&stratum).unwrap_or_default(),
            stratum,
            rule: row.get(1),
            switching: row.get::<_, Json<SwitchingState>>(2).0,
            changed_at: row.get(3),
            pinned_by: row.get(4),
            pinned_for: row.get(5),
            reason: row.get(6),
        }
    };
    Ok(rows.iter().map(summary).collect())
}

/// A change of a plan's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanChange {
    /// Its stratum.
    pub stratum: String,
    /// The state before.
    pub was: String,
    /// The state after.
    pub state: String,
    /// Why the state changed.
    pub reason: String,
    /// When it changed.
    pub at: DateTime<Utc>,
    /// Its counts since it last left pre-approval.
    pub seen: PlanCounts,
}

/// The changes in `from..to`, in order.
pub async fn moves(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<PlanChange>, StoreError> {
    let sql = "SELECT stratum, was, plan_state, reason, at, executed, audited, wrong FROM plan_changes
               WHERE at >= $1 AND at < $2 ORDER BY id";
    let count = |row: &Row, index: usize| u64::try_from(row.get::<_, i64>(index)).unwrap_or_default();
    let moved = |row: &Row| PlanChange {
        stratum: row.get(0),
        was: row.get(1),
        state: row.get(2),
        reason: row.get(3),
        at: row.get(4),
        seen: PlanCounts { executed: count(row, 5), audited: count(row, 6), wrong: count(row, 7) },
    };
    Ok(tx.query(sql, &[&from, &to]).await?.iter().map(moved).collect())
}
