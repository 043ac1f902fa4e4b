//! Moving sampling plans between approval and audit, by the results of reviews and audits.
//!
//! An event counts for its stratum, and for all strata of the rule, tool and agent together: an agent chooses its versions
//! and bands. What makes one stratum stricter moves all of them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use countersign_core::{
    action::State,
    evidence::{Event, LookbackOpened, OpenedAudit},
    ids::{ActionId, AuditId},
    message::AuditReason,
    stratum::family_of,
    verdict::Verdict,
};
use countersign_policy::{Policy, Switching};
use countersign_statistics::switching::{FAILED_CLEARANCES, Plan, PlanState, SwitchingEvent, SwitchingState};
use countersign_store::{
    StoreError, Transaction,
    actions::ActionRecord,
    audits::{self, NewAudit},
    evidence::{self, Evidence},
    sampling_plans::{self, FamilyRecord, PlanMove, PlanRecord},
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

    /// Whether it is a finding on what was executed before the generation from which on audits count.
    fn is_late(&self, since: i64) -> bool {
        matches!(self.event, SwitchingEvent::Audited { .. }) && self.generation < since
    }
}

/// Applies events in order. Returns the actions for which look-back audits were opened.
pub(crate) async fn apply(
    tx: &Transaction,
    policy: &Policy,
    inputs: &[SwitchingInput],
) -> Result<Vec<ActionId>, StoreError> {
    let names: BTreeSet<&str> = inputs.iter().map(|input| family_of(&input.stratum)).collect();
    // All of them before the first changes the generation, so that samplers cannot deadlock.
    let mut locked = Vec::with_capacity(names.len());
    for name in names {
        locked.extend(sampling_plans::lock_family(tx, name).await?);
    }
    let mut looked_back = Vec::new();
    for record in locked {
        let Some(rule) = policy.switching(&record.rule) else { continue };
        let mut family = Family { tx, rule, record, plans: BTreeMap::new() };
        family.read().await?;
        for input in inputs {
            if family_of(&input.stratum) == family.record.family {
                looked_back.extend(family.apply(input).await?);
            }
        }
        family.save().await?;
    }
    Ok(looked_back)
}

/// A locked family of strata while events are applied.
struct Family<'a> {
    tx: &'a Transaction,
    rule: &'a Switching,
    record: FamilyRecord,
    plans: BTreeMap<String, PlanRecord>,
}

impl Family<'_> {
    async fn read(&mut self) -> Result<(), StoreError> {
        let plans = sampling_plans::records(self.tx, &self.record.family).await?;
        self.plans = plans.into_iter().map(|plan| (plan.stratum.clone(), plan)).collect();
        Ok(())
    }

    async fn save(&self) -> Result<(), StoreError> {
        let states: Vec<(&str, SwitchingState)> =
            self.plans.iter().map(|(stratum, plan)| (stratum.as_str(), plan.switching)).collect();
        sampling_plans::save_states(self.tx, &states).await?;
        sampling_plans::save_counters(self.tx, &self.record).await
    }

    /// Applies one event to its stratum's plan and to the family's counters, and moves what moves. Returns the actions for
    /// which look-back audits were opened.
    async fn apply(&mut self, input: &SwitchingInput) -> Result<Vec<ActionId>, StoreError> {
        let (plan, mut together) = (&self.rule.plan, None);
        if !input.is_late(self.record.since) {
            (self.record.counters, together) = self.record.counters.after(plan, input.event);
        }
        let before = self.plans.get(&input.stratum).cloned();
        let counts = before.as_ref().filter(|own| own.pinned_by.is_none() && !input.is_late(own.since));
        let after = counts.map(|own| own.switching.after(plan, input.event));
        let moved = counts.zip(after).filter(|(own, after)| own.switching.state != after.state);
        if let (Some(own), Some(after), None) = (self.plans.get_mut(&input.stratum), after, moved) {
            own.switching = after;
        }
        let stricter =
            moved.filter(|(own, after)| after.state > own.switching.state).map(|(_, after)| after.state);
        let demotion = stricter.max(together);
        let why = match (moved, together) {
            (Some((own, after)), together) if together <= Some(after.state) => {
                reason(plan, own, input.event, after.state)
            }
            (_, Some(to)) => joint_reason(plan, input.event, to),
            _ => return Ok(vec![]),
        };
        let cusum = moved.is_some() && matches!(input.event, SwitchingEvent::Audited { .. });
        self.change(Change { input, after, demotion, why }).await?;
        let Some(before) = before.filter(|before| before.switching.state < PlanState::PreApproval) else {
            return Ok(vec![]);
        };
        let back =
            self.plans.get(&input.stratum).is_some_and(|own| own.switching.state == PlanState::PreApproval);
        if back { look_back(self.tx, self.rule, &before, cusum).await } else { Ok(vec![]) }
    }

    /// Moves the stratum of an event by its own record, and all that are looser and not pinned by the demotion.
    async fn change(&mut self, change: Change<'_>) -> Result<(), StoreError> {
        let Change { input, after, demotion, why } = change;
        if let Some(to) = demotion {
            self.record.counters = self.record.counters.demoted(to);
        }
        self.save().await?;
        let moved = |record: &PlanRecord| {
            let own = record.stratum == input.stratum;
            if record.pinned_by.is_some() {
                return None;
            }
            let base = after.filter(|_| own).unwrap_or(record.switching);
            let to = demotion.map_or(base, |to| base.demoted(to));
            let reason = if own { why.clone() } else { format!("together with {}: {why}", input.stratum) };
            (to != record.switching).then_some(PlanMove { to, reason })
        };
        let generation = sampling_plans::change(self.tx, &self.record.family, None, moved).await?;
        if demotion >= Some(PlanState::PreApproval) {
            self.record.since = generation.unwrap_or(self.record.since);
        }
        self.read().await
    }
}

/// What follows from an event that moves plans.
struct Change<'a> {
    input: &'a SwitchingInput,
    /// Where its stratum is by its own record, if the event counts there.
    after: Option<SwitchingState>,
    /// The state into which all strata are put that are looser.
    demotion: Option<PlanState>,
    why: String,
}

/// Why a plan moved by its own record, with the numbers.
fn reason(plan: &Plan, record: &PlanRecord, event: SwitchingEvent, to: PlanState) -> String {
    match (record.switching.state, event, to) {
        (_, SwitchingEvent::Critical, _) => "a second auditor confirmed a critical error".into(),
        (PlanState::PreApproval, _, PlanState::Normal) => {
            format!("{} approvals in a row without an error", plan.clearance)
        }
        (PlanState::PreApproval, _, _) => format!("{FAILED_CLEARANCES} clearances failed"),
        (_, _, PlanState::Tightened) => format!("the CUSUM of audits passed ln 20 (level {})", plan.tighten),
        (_, _, PlanState::PreApproval) => format!("the CUSUM of audits passed ln 100 (level {})", plan.back),
        (_, _, PlanState::Normal) => "five clean lots of 30 audits in a row".into(),
        _ => "an operator".into(),
    }
}

/// Why all plans of a family moved by what they have shown together.
fn joint_reason(plan: &Plan, event: SwitchingEvent, to: PlanState) -> String {
    match (event, to) {
        (SwitchingEvent::Critical, _) => "a second auditor confirmed a critical error".into(),
        (_, PlanState::Tightened) => {
            format!("the CUSUM of the audits of all versions and bands passed ln 20 (level {})", plan.tighten)
        }
        (_, PlanState::PreApproval) => {
            format!("the CUSUM of the audits of all versions and bands passed ln 100 (level {})", plan.back)
        }
        _ => format!("{FAILED_CLEARANCES} clearances failed, of all versions and bands together"),
    }
}

/// Most findings among which the last zero of a CUSUM is looked for.
const FINDINGS: i64 = 10_000;

/// Opens audits of the last actions of a stratum that have none: a census of its own, which enters no estimate. `record` is the
/// plan before it moved. If the CUSUM of its own audits moved it, what went wrong began after that was last at zero, and nothing
/// before is audited.
async fn look_back(
    tx: &Transaction,
    rule: &Switching,
    record: &PlanRecord,
    cusum: bool,
) -> Result<Vec<ActionId>, StoreError> {
    let count = rule.look_back;
    if count == 0 {
        return Ok(vec![]);
    }
    let from = if cusum { began(tx, &rule.plan, record).await? } else { None };
    let found = audits::to_look_back(tx, &record.stratum, record.since, from, count).await?;
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

/// When the last action ended that left the CUSUM at zero, or an earlier one that was judged later. `None` if it never was there
/// since its first finding: then all may have been wrong.
async fn began(
    tx: &Transaction,
    plan: &Plan,
    record: &PlanRecord,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let findings = audits::settled_of(tx, &record.stratum, record.since, FINDINGS).await?;
    let zero = plan.lattice.last_zero(findings.iter().map(|(_, wrong)| *wrong));
    let Some(last) = zero.checked_sub(1) else { return Ok(None) };
    Ok(findings.iter().skip(last).map(|(ended_at, _)| *ended_at).min())
}
