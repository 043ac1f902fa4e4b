//! Sampling plans: list the state of each and its reason; operators pin and reset them.

use countersign_core::stratum::family_of;
use countersign_statistics::sequential::EProcess;
pub use countersign_statistics::switching::{Plan, PlanState, SwitchingState};
pub use countersign_store::sampling_plans::PlanSummary;
use countersign_store::{
    Transaction, generation,
    sampling_plans::{self, FamilyRecord, PlanMove, PlanRecord},
};
use serde::Serialize;

use crate::{AppError, Connections, configuration::active, operators::acting};

/// A sampling plan with the thresholds of its rule.
#[derive(Clone, Debug, Serialize)]
pub struct PlanStanding {
    /// Clean approvals in a row that end `pre_approval`; absent where its rule no longer switches.
    pub clearance: Option<u32>,
    /// Evidence against "the error rate is within the rule's limit"; absent where its rule no longer switches.
    pub e_value: Option<f64>,
    /// The plan.
    pub plan: PlanSummary,
    /// The thresholds of its rule; absent where it no longer switches.
    #[serde(skip)]
    pub thresholds: Option<Plan>,
}

/// Lists all sampling plans.
///
/// # Errors
/// Where no configuration is active yet, or the database cannot be read.
pub async fn list(connections: &Connections) -> Result<Vec<PlanStanding>, AppError> {
    let store = connections.store()?;
    let configuration = active(&store).await?;
    let tx = store.transaction().await?;
    generation::read(&tx).await?;
    let standing = |plan: PlanSummary| {
        let thresholds = configuration.policy.switching(&plan.rule).map(|rule| rule.plan);
        PlanStanding {
            clearance: thresholds.map(|thresholds| thresholds.clearance),
            e_value: thresholds.map(|thresholds| e_value(&plan, &thresholds)),
            plan,
            thresholds,
        }
    };
    Ok(sampling_plans::list(&tx).await?.into_iter().map(standing).collect())
}

/// Evidence against "the error rate is within the limit" since actions of the stratum were last executed without approval.
fn e_value(plan: &PlanSummary, thresholds: &Plan) -> f64 {
    let mut process = EProcess::new(thresholds.wanted.limit);
    for n in 0..plan.seen.audited {
        process.observe(n < plan.seen.wrong);
    }
    process.ln_value().exp()
}

/// A change to the sampling plan of one stratum.
#[derive(Clone, Debug)]
pub struct ChangePlan {
    /// The stratum, as the list names it.
    pub stratum: String,
    /// The change.
    pub change: Change,
    /// Who does it, if it is to be checked: otherwise whoever has logged in to the database.
    pub operator: Option<String>,
    /// Why.
    pub reason: String,
}

/// A change to a sampling plan.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Put it into this state, or leave it in its present one, and keep it there whatever audits find.
    Pin(Option<PlanState>),
    /// Let it switch again, from its present state.
    Unpin,
    /// Bring it from discontinued back to pre-approval.
    Reset,
}

/// The result of a change to a sampling plan.
#[derive(Clone, Debug, Serialize)]
pub struct ChangedPlan {
    /// A description of the change.
    pub done: String,
    /// The stratum.
    pub stratum: String,
}

/// The operator who changes a plan, and why.
#[derive(Clone, Copy)]
struct By<'a> {
    operator: &'a str,
    reason: &'a str,
}

/// Pins, unpins or resets a sampling plan.
///
/// # Errors
/// Where the operator or the stratum is unknown, the plan is not in a state that allows the change, or the database
/// refuses.
pub async fn change(connections: &Connections, request: ChangePlan) -> Result<ChangedPlan, AppError> {
    let store = connections.store()?;
    let operator = acting(&store, request.operator.as_deref()).await?.operator;
    let by = By { operator: &operator, reason: &request.reason };
    let tx = store.transaction().await?;
    let stratum = request.stratum.as_str();
    let unknown = || {
        AppError::NotFound(format!(
            "no sampling plan for the stratum {stratum:?}; see `countersign switching list`"
        ))
    };
    let family = sampling_plans::lock_family(&tx, family_of(stratum)).await?.ok_or_else(unknown)?;
    let records = sampling_plans::records(&tx, &family.family).await?;
    let record = records.into_iter().find(|record| record.stratum == stratum).ok_or_else(unknown)?;
    let done = match request.change {
        Change::Pin(state) => pin(&tx, family, &record, state, by).await?,
        Change::Unpin => unpin(&tx, &record).await?,
        Change::Reset => reset(&tx, &family, &record, by).await?,
    };
    tx.commit().await?;
    Ok(ChangedPlan { done, stratum: request.stratum })
}

/// Moves and pins one plan. Where that is stricter than before, it moves the agent's other versions and bands as well: they
/// must not be a way around it. They are not pinned, and their own records move them again.
async fn pin(
    tx: &Transaction,
    mut family: FamilyRecord,
    record: &PlanRecord,
    state: Option<PlanState>,
    by: By<'_>,
) -> Result<String, AppError> {
    let (before, stratum) = (record.switching.state, &record.stratum);
    let state = state.unwrap_or(before);
    let moved = |other: &PlanRecord| {
        let reason = format!("{}: {}", by.operator, by.reason);
        let to = match other.stratum == *stratum {
            true if state != before => SwitchingState::new(state),
            false if state > before && other.pinned_by.is_none() => other.switching.demoted(state),
            _ => return None,
        };
        let reason = match other.stratum == *stratum {
            true => reason,
            false => format!("together with {stratum}: {reason}"),
        };
        Some(PlanMove { to, reason })
    };
    let generation = sampling_plans::change(tx, &family.family, Some(by.operator), moved).await?;
    if state > before {
        family.counters = family.counters.demoted(state);
        family.since = generation.filter(|_| state >= PlanState::PreApproval).unwrap_or(family.since);
        sampling_plans::save_counters(tx, &family).await?;
    }
    sampling_plans::pin(tx, stratum, Some((by.operator, by.reason))).await?;
    Ok(format!("{stratum} is pinned to {}", state.as_str()))
}

async fn unpin(tx: &Transaction, record: &PlanRecord) -> Result<String, AppError> {
    let (stratum, state) = (&record.stratum, record.switching.state);
    if record.pinned_by.is_none() {
        return Err(AppError::State(format!("{stratum} is not pinned")));
    }
    sampling_plans::save_states(tx, &[(stratum, SwitchingState::new(state))]).await?;
    sampling_plans::pin(tx, stratum, None).await?;
    Ok(format!("{stratum} moves again, from {}", state.as_str()))
}

/// Begins anew with everything that was discontinued together, as long as it is not pinned.
async fn reset(
    tx: &Transaction,
    family: &FamilyRecord,
    record: &PlanRecord,
    by: By<'_>,
) -> Result<String, AppError> {
    let stratum = &record.stratum;
    if record.pinned_by.is_some() {
        return Err(AppError::State(format!("{stratum} is pinned: unpin it first")));
    }
    if record.switching.state != PlanState::Discontinued {
        return Err(AppError::State(format!("{stratum} is not discontinued")));
    }
    let moved = |other: &PlanRecord| {
        let resets = other.pinned_by.is_none() && other.switching.state == PlanState::Discontinued;
        let reason = format!("{}: {}", by.operator, by.reason);
        resets.then(|| PlanMove { to: SwitchingState::new(PlanState::PreApproval), reason })
    };
    sampling_plans::change(tx, &family.family, Some(by.operator), moved).await?;
    Ok(format!(
        "{stratum} begins anew, and so do the agent's other versions and bands: every action is approved first"
    ))
}
