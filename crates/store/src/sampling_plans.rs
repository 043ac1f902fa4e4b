//! Sampling plans, which move strata between approval and audit. Their states are part of the active generation.

use chrono::{DateTime, Utc};
pub use countersign_core::evidence::PlanCounts;
use countersign_core::evidence::{
    Event, PlanCounters, SamplingPlanChanged, SamplingPlanOpened, SamplingPlanPinned,
};
use countersign_statistics::switching::{PlanState, SwitchingState};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Row, types::Json};

use crate::{
    StoreError, Transaction,
    evidence::{self, Evidence},
    generation,
};

/// A plan and its state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SamplingPlan {
    /// Its stratum.
    pub stratum: String,
    /// The rule.
    pub rule: String,
    /// Its state.
    pub state: PlanState,
}

fn plan_state(row: &Row, column: &str) -> Result<PlanState, StoreError> {
    row.get::<_, &str>(column).parse().map_err(StoreError::Corrupt)
}

/// All plans. Read after the generation is locked.
pub async fn plans(tx: &Transaction) -> Result<Vec<SamplingPlan>, StoreError> {
    let rows = tx.query("SELECT stratum, rule, plan_state FROM sampling_plans", &[]).await?;
    let plan = |row: &Row| {
        Ok(SamplingPlan {
            stratum: row.get("stratum"),
            rule: row.get("rule"),
            state: plan_state(row, "plan_state")?,
        })
    };
    rows.iter().map(plan).collect()
}

/// Opens plans that do not exist yet, in their states under this generation, and writes the evidence.
pub async fn open(tx: &Transaction, generation: i64, plans: &[SamplingPlan]) -> Result<(), StoreError> {
    if plans.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO sampling_plans (stratum, rule, plan_state, switching_state, since)
               SELECT stratum, rule, plan_state, switching_state, $5
               FROM UNNEST($1::text[], $2::text[], $3::text[], $4::jsonb[])
                 AS u (stratum, rule, plan_state, switching_state) ORDER BY stratum
               ON CONFLICT DO NOTHING RETURNING stratum, plan_state";
    let texts =
        |pick: fn(&SamplingPlan) -> &str| plans.iter().map(pick).map(str::to_owned).collect::<Vec<_>>();
    let states: Vec<Json<SwitchingState>> =
        plans.iter().map(|plan| Json(SwitchingState::new(plan.state))).collect();
    let opened = tx
        .query(
            &tx.prepare_cached(sql).await?,
            &[
                &texts(|plan| &plan.stratum),
                &texts(|plan| &plan.rule),
                &texts(|plan| plan.state.as_str()),
                &states,
                &generation,
            ],
        )
        .await?;
    let noted = |row: &Row| SamplingPlanOpened { stratum: row.get(0), plan_state: row.get(1) };
    let noted = opened.iter().map(|row| Evidence::global(Event::SamplingPlanOpened(noted(row))));
    evidence::insert(tx, &noted.collect::<Vec<_>>()).await
}

/// A locked plan.
#[derive(Clone, Debug)]
pub struct PlanRecord {
    /// Its stratum.
    pub stratum: String,
    /// The rule.
    pub rule: String,
    /// Its state with its counters.
    pub switching: SwitchingState,
    /// The first generation whose audits count.
    pub since: i64,
    /// The operator who pinned it.
    pub pinned_by: Option<String>,
}

/// Locks plans in order. Unknown ones are left out.
pub async fn lock(tx: &Transaction, strata: &[&str]) -> Result<Vec<PlanRecord>, StoreError> {
    let sql = "SELECT stratum, rule, switching_state, since, pinned_by FROM sampling_plans
               WHERE stratum = ANY($1) ORDER BY stratum FOR UPDATE";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&strata]).await?;
    let record = |row: &Row| PlanRecord {
        stratum: row.get(0),
        rule: row.get(1),
        switching: row.get::<_, Json<SwitchingState>>(2).0,
        since: row.get(3),
        pinned_by: row.get(4),
    };
    Ok(rows.iter().map(record).collect())
}

/// Saves the counters of a locked plan that stays in its state.
pub async fn save_state(
    tx: &Transaction,
    stratum: &str,
    switching: &SwitchingState,
) -> Result<(), StoreError> {
    let sql = "UPDATE sampling_plans SET switching_state = $2 WHERE stratum = $1 AND switching_state <> $2";
    tx.execute(&tx.prepare_cached(sql).await?, &[&stratum, &Json(switching)]).await?;
    Ok(())
}

async fn seen(tx: &Transaction, stratum: &str, since: i64) -> Result<PlanCounts, StoreError> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE u.state = 'judged'), count(*) FILTER (WHERE u.finding = 'wrong')
               FROM sampling s JOIN actions a ON a.id = s.action
               LEFT JOIN audits u ON u.action = s.action AND s.selected
               WHERE s.stratum = $1 AND s.executed AND a.verdict = 'allow' AND a.generation >= $2";
    let row = tx.query_one(sql, &[&stratum, &since]).await?;
    let count = |index: usize| u64::try_from(row.get::<_, i64>(index)).unwrap_or_default();
    Ok(PlanCounts { executed: count(0), audited: count(1), wrong: count(2) })
}

/// Moves a locked plan to another state. Advances the generation, so that earlier permits can no longer be claimed;
/// where the plan leaves pre-approval, its audits count from the new generation on. Returns its counts so far.
pub async fn change(
    tx: &Transaction,
    record: &PlanRecord,
    to: SwitchingState,
    reason: &str,
    by: Option<&str>,
) -> Result<PlanCounts, StoreError> {
    let (was, stratum) = (record.switching, record.stratum.as_str());
    let seen = seen(tx, stratum, record.since).await?;
    let generation = generation::advance(tx).await?;
    let executes = |state: PlanState| matches!(state, PlanState::Normal | PlanState::Tightened);
    let leaves_pre_approval = executes(to.state) && !executes(was.state);
    let since = if leaves_pre_approval { generation } else { record.since };
    let sql = "UPDATE sampling_plans SET plan_state = $2, switching_state = $3, since = $4, changed_at = clock_timestamp()
               WHERE stratum = $1";
    tx.execute(sql, &[&stratum, &to.state.as_str(), &Json(to), &since]).await?;
    let sql =
        "INSERT INTO plan_changes (stratum, was, plan_state, reason, generation, executed, audited, wrong)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let (executed, audited, wrong) = (count(seen.executed), count(seen.audited), count(seen.wrong));
    let (from, state) = (was.state.as_str(), to.state.as_str());
    tx.execute(sql, &[&stratum, &from, &state, &reason, &generation, &executed, &audited, &wrong]).await?;
    // An operator's reason may name people: it stays out of the ledger and is in `plan_changes`.
    let noted_reason = by.is_none().then_some(reason);
    let noted = SamplingPlanChanged {
        stratum: stratum.into(),
        from: counters(was),
        to: counters(to),
        reason: noted_reason.map(str::to_owned),
        generation,
        counts: seen,
        by: by.map(str::to_owned),
    };
    evidence::insert(tx, &[Evidence::global(Event::SamplingPlanChanged(noted))]).await?;
    Ok(seen)
}

/// Pins a locked plan in its state, or lets the statistics move it again.
pub async fn pin(tx: &Transaction, stratum: &str, pinned: Option<(&str, &str)>) -> Result<(), StoreError> {
    let sql = "UPDATE sampling_plans SET pinned_by = $2, pinned_for = $3 WHERE stratum = $1";
    let (by, reason) = pinned.unzip();
    tx.execute(sql, &[&stratum, &by, &reason]).await?;
    // Without the reason, as above.
    let noted = SamplingPlanPinned { stratum: stratum.into(), by: by.map(str::to_owned) };
    let event = match by {
        Some(_) => Event::SamplingPlanPinned(noted),
        None => Event::SamplingPlanUnpinned(noted),
    };
    evidence::insert(tx, &[Evidence::global(event)]).await
}

/// A state with its counters, as evidence.
fn counters(switching: SwitchingState) -> PlanCounters {
    let SwitchingState { state, clean, reviews, failed, level, lot, lot_wrong, clean_lots } = switching;
    PlanCounters { state: state.as_str().into(), clean, reviews, failed, level, lot, lot_wrong, clean_lots }
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
    let sql = "SELECT stratum, rule, switching_state, changed_at, since, pinned_by, pinned_for,
                      (SELECT reason FROM plan_changes w WHERE w.stratum = s.stratum ORDER BY id DESC LIMIT 1)
               FROM sampling_plans s ORDER BY stratum";
    let mut all = Vec::new();
    for row in tx.query(sql, &[]).await? {
        let stratum: String = row.get(0);
        let seen = seen(tx, &stratum, row.get(4)).await?;
        all.push(PlanSummary {
            stratum,
            rule: row.get(1),
            switching: row.get::<_, Json<SwitchingState>>(2).0,
            changed_at: row.get(3),
            seen,
            pinned_by: row.get(5),
            pinned_for: row.get(6),
            reason: row.get(7),
        });
    }
    Ok(all)
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
