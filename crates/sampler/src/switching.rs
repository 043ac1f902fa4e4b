//! Moving sampling plans between approval and audit, by the results of reviews and audits.

use std::collections::BTreeSet;

use countersign_core::{
    action::State,
    evidence::{Event, LookbackOpened, OpenedAudit},
    ids::{ActionId, AuditId},
    message::AuditReason,
    verdict::Verdict,
};
use countersign_policy::Policy;
use countersign_statistics::switching::{Plan, PlanState, SwitchingEvent};
use countersign_store::{
    StoreError, Transaction,
    actions::ActionRecord,
    audits::{self, NewAudit},
    evidence::{self, Evidence},
    sampling_plans::{self, PlanRecord},
};
use uuid::Uuid;

/// An event that concerns the sampling plan of an action's stratum.
pub(crate) struct SwitchingInput {
    stratum: String,
    event: SwitchingEvent,
    /// The generation under which the action was evaluated.
    generation: i64,
}

impl SwitchingInput {
    pub(crate) fn of(record: &ActionRecord, event: SwitchingEvent) -> Option<Self> {
        record.status.plan_state?;
        let (stratum, generation) = (record.status.stratum.clone(), record.status.generation);
        Some(Self { stratum, event, generation })
    }

    /// What an action that has ended contributes, if it needed approval.
    pub(crate) fn reviewed(record: &ActionRecord) -> Option<Self> {
        if record.status.verdict != Verdict::RequireApproval {
            return None;
        }
        let wrong = match record.status.state {
            State::Rejected => true,
            state if state.executed() => record.edited.is_some(),
            _ => return None,
        };
        Self::of(record, SwitchingEvent::Reviewed { wrong })
    }
}

/// Applies events in order. Returns the actions for which look-back audits were opened.
pub(crate) async fn apply(
    tx: &Transaction,
    policy: &Policy,
    inputs: &[SwitchingInput],
) -> Result<Vec<ActionId>, StoreError> {
    if inputs.is_empty() {
        return Ok(vec![]);
    }
    let strata: BTreeSet<&str> = inputs.iter().map(|input| input.stratum.as_str()).collect();
    let strata: Vec<&str> = strata.into_iter().collect();
    let mut looked_back = Vec::new();
    for mut record in sampling_plans::lock(tx, &strata).await? {
        let Some(rule) = policy.switching(&record.rule).filter(|_| record.pinned_by.is_none()) else {
            continue;
        };
        let stratum = record.stratum.clone();
        for input in inputs.iter().filter(|input| input.stratum == stratum) {
            // A finding on what was executed before the plan last left pre-approval does not count.
            let late =
                matches!(input.event, SwitchingEvent::Audited { .. }) && input.generation < record.since;
            if late {
                continue;
            }
            let after = record.switching.after(&rule.plan, input.event);
            if after.state != record.switching.state {
                let why = reason(&rule.plan, &record, input.event, after.state);
                sampling_plans::change(tx, &record, after, &why, None).await?;
                if after.state == PlanState::PreApproval {
                    looked_back.extend(look_back(tx, &record, rule.look_back).await?);
                }
                record = match sampling_plans::lock(tx, &[&stratum]).await?.pop() {
                    Some(record) => record,
                    None => break,
                };
            }
            record.switching = after;
        }
        sampling_plans::save_state(tx, &stratum, &record.switching).await?;
    }
    Ok(looked_back)
}

/// Why a plan moved, with the numbers.
fn reason(plan: &Plan, record: &PlanRecord, event: SwitchingEvent, to: PlanState) -> String {
    match (record.switching.state, event, to) {
        (_, SwitchingEvent::Critical, _) => "a second auditor confirmed a critical error".into(),
        (PlanState::PreApproval, _, PlanState::Normal) => {
            format!("{} approvals in a row without an error", plan.clearance)
        }
        (PlanState::PreApproval, _, _) => format!("{} clearances failed", record.switching.failed + 1),
        (_, _, PlanState::Tightened) => format!("the CUSUM of audits passed ln 20 (level {})", plan.tighten),
        (_, _, PlanState::PreApproval) => format!("the CUSUM of audits passed ln 100 (level {})", plan.back),
        (_, _, PlanState::Normal) => "five clean lots of 30 audits in a row".into(),
        _ => "an operator".into(),
    }
}

/// Opens audits of the last actions of a stratum that have none: a census of its own, which enters no estimate.
async fn look_back(tx: &Transaction, record: &PlanRecord, count: u32) -> Result<Vec<ActionId>, StoreError> {
    if count == 0 {
        return Ok(vec![]);
    }
    let found = audits::to_look_back(tx, &record.stratum, record.since, count).await?;
    let mut opened = Vec::with_capacity(found.len());
    let mut noted = Vec::with_capacity(found.len());
    for (action, group) in found {
        let id = AuditId(Uuid::now_v7());
        let audit = OpenedAudit { id, group: group.clone() };
        let lookback = LookbackOpened { audit, stratum: record.stratum.clone() };
        noted.push(Evidence::of(action, Event::AuditLookbackOpened(lookback)));
        opened.push(NewAudit { id, action, group, reason: AuditReason::LookBack, twice: false });
    }
    audits::open(tx, &opened).await?;
    evidence::insert(tx, &noted).await?;
    Ok(opened.iter().map(|audit| audit.action).collect())
}
