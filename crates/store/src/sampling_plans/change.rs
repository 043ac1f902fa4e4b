//! Changing sampling plans: by their own records, and all plans of a family together.

use std::collections::HashSet;

use countersign_core::evidence::{Event, PlanCounters, SamplingPlanChanged, SamplingPlanPinned};
use countersign_statistics::switching::{AgentCounters, SwitchingState};
use tokio_postgres::{Row, types::Json};

use super::seen;
use crate::{
    StoreError, Transaction,
    evidence::{self, Evidence},
    generation,
};

/// A locked family: the strata of one rule, tool and agent.
#[derive(Clone, Debug)]
pub struct FamilyRecord {
    /// What its strata's names begin with.
    pub family: String,
    /// The rule.
    pub rule: String,
    /// The agent.
    pub agent: String,
    /// What its strata have shown together.
    pub counters: AgentCounters,
    /// The first generation whose audits count.
    pub since: i64,
}

/// A plan of a locked family.
#[derive(Clone, Debug)]
pub struct PlanRecord {
    /// Its stratum.
    pub stratum: String,
    /// Its state with its counters.
    pub switching: SwitchingState,
    /// The first generation whose audits count.
    pub since: i64,
    /// The operator who pinned it.
    pub pinned_by: Option<String>,
}

/// Where a plan moves, and why.
#[derive(Clone, Debug)]
pub struct PlanMove {
    /// The new state with its counters.
    pub to: SwitchingState,
    /// Why, with the numbers or in an operator's words.
    pub reason: String,
}

/// Locks a family, if it has plans, and with it all of its plans. Callers lock families in order, before they change
/// the generation. The lock does not hold up transactions that open plans.
pub async fn lock_family(tx: &Transaction, family: &str) -> Result<Option<FamilyRecord>, StoreError> {
    let sql =
        "SELECT family, rule, agent, counters, since FROM plan_families WHERE family = $1 FOR NO KEY UPDATE";
    Ok(tx.query_opt(&tx.prepare_cached(sql).await?, &[&family]).await?.as_ref().map(record))
}

/// Locks all families of these agents, in order.
pub async fn families_of(tx: &Transaction, agents: &[&str]) -> Result<Vec<FamilyRecord>, StoreError> {
    let sql = "SELECT family, rule, agent, counters, since FROM plan_families WHERE agent = ANY($1)
               ORDER BY family FOR NO KEY UPDATE";
    Ok(tx.query(sql, &[&agents]).await?.iter().map(record).collect())
}

fn record(row: &Row) -> FamilyRecord {
    FamilyRecord {
        family: row.get(0),
        rule: row.get(1),
        agent: row.get(2),
        counters: row.get::<_, Json<AgentCounters>>(3).0,
        since: row.get(4),
    }
}

/// The plans of a locked family, in order.
pub async fn records(tx: &Transaction, family: &str) -> Result<Vec<PlanRecord>, StoreError> {
    let sql = "SELECT stratum, switching_state, since, pinned_by FROM sampling_plans WHERE family = $1 ORDER BY stratum";
    let record = |row: &Row| PlanRecord {
        stratum: row.get(0),
        switching: row.get::<_, Json<SwitchingState>>(1).0,
        since: row.get(2),
        pinned_by: row.get(3),
    };
    Ok(tx.query(&tx.prepare_cached(sql).await?, &[&family]).await?.iter().map(record).collect())
}

/// The plans of a locked family that execute at once although they were never cleared: they began beside a sibling.
pub async fn uncleared(tx: &Transaction, family: &str) -> Result<HashSet<String>, StoreError> {
    let sql = "SELECT stratum FROM sampling_plans s
               WHERE family = $1 AND pinned_by IS NULL AND plan_state IN ('normal', 'tightened')
                 AND NOT EXISTS (SELECT FROM plan_changes c WHERE c.stratum = s.stratum
                                 AND c.was IN ('pre_approval', 'discontinued') AND c.plan_state IN ('normal', 'tightened'))";
    Ok(tx.query(sql, &[&family]).await?.iter().map(|row| row.get(0)).collect())
}

/// Saves the counters of plans of a locked family that stay in their states.
pub async fn save_states(tx: &Transaction, states: &[(&str, SwitchingState)]) -> Result<(), StoreError> {
    let sql = "UPDATE sampling_plans p SET switching_state = u.switching_state
               FROM UNNEST($1::text[], $2::jsonb[]) AS u (stratum, switching_state)
               WHERE p.stratum = u.stratum AND p.switching_state <> u.switching_state";
    let (strata, states): (Vec<&str>, Vec<_>) =
        states.iter().map(|(stratum, state)| (*stratum, Json(*state))).unzip();
    tx.execute(&tx.prepare_cached(sql).await?, &[&strata, &states]).await?;
    Ok(())
}

/// Saves a locked family's counters.
pub async fn save_counters(tx: &Transaction, family: &FamilyRecord) -> Result<(), StoreError> {
    let sql = "UPDATE plan_families SET counters = $2, since = $3 WHERE family = $1 AND (counters <> $2 OR since <> $3)";
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&family.family, &Json(family.counters), &family.since];
    tx.execute(&tx.prepare_cached(sql).await?, &parameters).await?;
    Ok(())
}

/// Moves plans of a locked family: `to` says where each goes; `None` leaves it alone. Where a state changes, this advances
/// the generation, so that earlier permits can no longer be claimed and no plan of the family is opened meanwhile; where
/// a plan leaves pre-approval, its audits count from the new generation on. Returns that generation.
///
/// A move that changes counters only is saved without evidence, like any other event of a plan.
pub async fn change(
    tx: &Transaction,
    family: &str,
    by: Option<&str>,
    to: impl Fn(&PlanRecord) -> Option<PlanMove>,
) -> Result<Option<i64>, StoreError> {
    let before = records(tx, family).await?;
    let moves: Vec<(&PlanRecord, SwitchingState)> =
        before.iter().filter_map(|record| Some((record, to(record)?.to))).collect();
    let states = || moves.iter().filter(|(record, to)| record.switching.state != to.state);
    let strata: Vec<&str> = states().map(|(record, _)| record.stratum.as_str()).collect();
    if strata.is_empty() {
        let restarted: Vec<_> = moves.iter().map(|(record, to)| (record.stratum.as_str(), *to)).collect();
        return save_states(tx, &restarted).await.map(|()| None);
    }
    let mut counts = seen(tx, &strata).await?;
    let generation = generation::advance(tx).await?;
    let (mut restarted, mut noted) = (Vec::new(), Vec::new());
    // Read again: until the generation was locked, others could open plans.
    let records = records(tx, family).await?;
    for record in &records {
        let Some(PlanMove { to, reason }) = to(record) else { continue };
        if to.state == record.switching.state {
            restarted.push((record.stratum.as_str(), to));
            continue;
        }
        let changed = SamplingPlanChanged {
            stratum: record.stratum.clone(),
            from: counters(record.switching),
            to: counters(to),
            reason: Some(reason),
            generation,
            counts: counts.remove(&record.stratum).unwrap_or_default(),
            by: by.map(str::to_owned),
        };
        store(tx, record, to, &changed).await?;
        // An operator's reason may name people: it stays out of the ledger and is in `plan_changes`.
        let reason = changed.reason.filter(|_| by.is_none());
        noted.push(Evidence::global(Event::SamplingPlanChanged(SamplingPlanChanged { reason, ..changed })));
    }
    save_states(tx, &restarted).await?;
    evidence::insert(tx, &noted).await?;
    Ok(Some(generation))
}

/// Stores one plan's new state and the change.
async fn store(
    tx: &Transaction,
    record: &PlanRecord,
    to: SwitchingState,
    changed: &SamplingPlanChanged,
) -> Result<(), StoreError> {
    let leaves_pre_approval = to.state.executes() && !record.switching.state.executes();
    let since = if leaves_pre_approval { changed.generation } else { record.since };
    let sql = "UPDATE sampling_plans SET plan_state = $2, switching_state = $3, since = $4, changed_at = clock_timestamp()
               WHERE stratum = $1";
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&record.stratum, &to.state.as_str(), &Json(to), &since]).await?;
    let sql =
        "INSERT INTO plan_changes (stratum, was, plan_state, reason, generation, executed, audited, wrong)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let seen = changed.counts;
    let (executed, audited, wrong) = (count(seen.executed), count(seen.audited), count(seen.wrong));
    let (was, state) = (record.switching.state.as_str(), to.state.as_str());
    let reason = changed.reason.as_deref().unwrap_or_default();
    let generation = changed.generation;
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(
        &statement,
        &[&record.stratum, &was, &state, &reason, &generation, &executed, &audited, &wrong],
    )
    .await?;
    Ok(())
}

/// Pins a plan of a locked family in its state, or lets the statistics move it again.
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
