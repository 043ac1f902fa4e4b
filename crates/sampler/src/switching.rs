//! Moving sampling plans between approval and audit, by the results of reviews and audits, and by their absence.
//!
//! An event counts for its stratum, and for all strata of the rule, tool and agent together: an agent chooses its versions
//! and bands. What makes one stratum stricter moves all of them. After the events of a batch, the caps of the rule are
//! compared with what is known of all strata together; the sweep has them compared when nothing happens.

mod input;
mod look_back;
mod reason;

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::ids::ActionId;
use countersign_policy::{Policy, Switching};
use countersign_statistics::switching::{Exceeded, PlanState, SwitchingEvent, SwitchingState};
use countersign_store::{
    StoreError, Transaction,
    audits::LookBack,
    sampling_plans::{self, CountedDraw, FamilyRecord, PlanMove, PlanRecord},
};

pub(crate) use self::input::SwitchingInput;
use self::input::What;

/// Applies events in order. Returns the actions for which look-back audits were opened.
pub(crate) async fn apply(
    tx: &Transaction,
    policy: &Policy,
    inputs: &[SwitchingInput],
) -> Result<Vec<ActionId>, StoreError> {
    let names = inputs.iter().map(SwitchingInput::family).collect();
    apply_to(tx, policy, names, inputs).await
}

/// Compares the caps of these families' rules with what is known of them. Returns as [`apply`] does.
pub(crate) async fn check(
    tx: &Transaction,
    policy: &Policy,
    families: &[String],
) -> Result<Vec<ActionId>, StoreError> {
    apply_to(tx, policy, families.iter().map(String::as_str).collect(), &[]).await
}

async fn apply_to(
    tx: &Transaction,
    policy: &Policy,
    names: BTreeSet<&str>,
    inputs: &[SwitchingInput],
) -> Result<Vec<ActionId>, StoreError> {
    // All of them before the first changes the generation, so that samplers cannot deadlock.
    let mut locked = Vec::with_capacity(names.len());
    for name in names {
        locked.extend(sampling_plans::lock_family(tx, name).await?);
    }
    let judged: Vec<ActionId> =
        inputs.iter().filter(|input| input.is_finding()).map(|input| input.action).collect();
    if !judged.is_empty() {
        sampling_plans::count_findings(tx, &judged).await?;
    }
    let mut looked_back = Vec::new();
    for record in locked {
        let Some(rule) = policy.switching(&record.rule) else { continue };
        let mut family = Family { tx, rule, record, plans: BTreeMap::new() };
        family.read().await?;
        let own: Vec<&SwitchingInput> =
            inputs.iter().filter(|input| input.family() == family.record.family).collect();
        family.count(&own).await?;
        for input in own {
            if let What::Event(event) = input.what {
                looked_back.extend(family.apply(input, event).await?);
            }
        }
        family.save().await?;
        looked_back.extend(family.check_caps().await?);
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

/// Whether an event is a finding on what was executed before the generation from which on audits count.
fn is_late(input: &SwitchingInput, event: SwitchingEvent, since: i64) -> bool {
    matches!(event, SwitchingEvent::Audited { .. }) && input.generation < since
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

    /// Counts draws in the window. What an operator has pinned is the operator's responsibility: no audit of it returns
    /// other strata, which could not help.
    async fn count(&self, inputs: &[&SwitchingInput]) -> Result<(), StoreError> {
        let pinned = |input: &SwitchingInput| {
            self.plans.get(&input.stratum).is_some_and(|plan| plan.pinned_by.is_some())
        };
        let counts = inputs.iter().filter(|input| input.generation >= self.record.since && !pinned(input));
        let draws: Vec<CountedDraw> = counts
            .filter_map(|input| match input.what {
                What::Drawn(draw) => Some(draw),
                What::Event(_) => None,
            })
            .collect();
        if draws.is_empty() {
            return Ok(());
        }
        sampling_plans::count_draws(self.tx, &self.record, &draws).await
    }

    /// Applies one event to its stratum's plan and to the family's counters, and moves what moves. Returns the actions for
    /// which look-back audits were opened.
    async fn apply(
        &mut self,
        input: &SwitchingInput,
        event: SwitchingEvent,
    ) -> Result<Vec<ActionId>, StoreError> {
        let (plan, mut together) = (&self.rule.plan, None);
        if !is_late(input, event, self.record.since) {
            (self.record.counters, together) = self.record.counters.after(plan, event);
        }
        let before = self.plans.get(&input.stratum).cloned();
        let counts =
            before.as_ref().filter(|own| own.pinned_by.is_none() && !is_late(input, event, own.since));
        let after = counts.map(|own| own.switching.after(plan, event));
        let moved = counts.zip(after).filter(|(own, after)| own.switching.state != after.state);
        if let (Some(own), Some(after), None) = (self.plans.get_mut(&input.stratum), after, moved) {
            own.switching = after;
        }
        let stricter =
            moved.filter(|(own, after)| after.state > own.switching.state).map(|(_, after)| after.state);
        let demotion = stricter.max(together);
        let why = match (moved, together) {
            (Some((own, after)), together) if together <= Some(after.state) => {
                reason::own(plan, own, event, after.state)
            }
            (_, Some(to)) => reason::joint(plan, event, to),
            _ => return Ok(vec![]),
        };
        let cusum = moved.is_some() && input.is_finding();
        self.change(Change { own: Some((input.stratum.as_str(), after)), demotion, why }).await?;
        let Some(before) = before.filter(|before| before.switching.state.executes()) else {
            return Ok(vec![]);
        };
        let back =
            self.plans.get(&input.stratum).is_some_and(|own| own.switching.state == PlanState::PreApproval);
        if !back {
            return Ok(vec![]);
        }
        // If the CUSUM of its own audits moved it, nothing is audited from before that was last at zero.
        let from = if cusum { look_back::began(self.tx, plan, &before).await? } else { None };
        let strata = [before.stratum.as_str()];
        look_back::open(self.tx, self.rule, &LookBack { strata: &strata, since: before.since, from }).await
    }

    /// Returns all strata to pre-approval if a cap is exceeded. If too many errors may be undetected, the last actions of
    /// all that were executed at once are audited; where audits are late, more of them would not help.
    async fn check_caps(&mut self) -> Result<Vec<ActionId>, StoreError> {
        let executing = self.plans.values().filter(|plan| plan.pinned_by.is_none());
        let executing = executing.filter(|plan| plan.switching.state.executes());
        let strata: Vec<String> = executing.map(|plan| plan.stratum.clone()).collect();
        if strata.is_empty() {
            return Ok(vec![]);
        }
        let window = sampling_plans::window(self.tx, &self.record).await?;
        let Some(exceeded) = self.rule.caps.exceeded(&window) else { return Ok(vec![]) };
        let why = reason::cap(self.rule, exceeded);
        tracing::warn!(family = self.record.family, why, "back to approval");
        let since = self.record.since;
        self.change(Change { own: None, demotion: Some(PlanState::PreApproval), why }).await?;
        if !matches!(exceeded, Exceeded::AtMost { .. }) {
            return Ok(vec![]);
        }
        let strata: Vec<&str> = strata.iter().map(String::as_str).collect();
        look_back::open(self.tx, self.rule, &LookBack { strata: &strata, since, from: None }).await
    }

    /// Moves the stratum of an event by its own record, and all that are looser and not pinned by the demotion.
    async fn change(&mut self, change: Change<'_>) -> Result<(), StoreError> {
        let Change { own, demotion, why } = change;
        if let Some(to) = demotion {
            self.record.counters = self.record.counters.demoted(to);
        }
        self.save().await?;
        let moved = |record: &PlanRecord| {
            if record.pinned_by.is_some() {
                return None;
            }
            let by_own = own.filter(|(stratum, _)| *stratum == record.stratum);
            let base = by_own.and_then(|(_, after)| after).unwrap_or(record.switching);
            let to = demotion.map_or(base, |to| base.demoted(to));
            let reason = match (own, by_own) {
                (Some((stratum, _)), None) => format!("together with {stratum}: {why}"),
                _ => why.clone(),
            };
            (to != record.switching).then_some(PlanMove { to, reason })
        };
        let generation = sampling_plans::change(self.tx, &self.record.family, None, moved).await?;
        if demotion >= Some(PlanState::PreApproval) {
            self.record.since = generation.unwrap_or(self.record.since);
        }
        self.read().await?;
        sampling_plans::save_counters(self.tx, &self.record).await
    }
}

/// A move of plans.
struct Change<'a> {
    /// The stratum whose event moves them, if one's does, and where it is by its own record, if the event counts there.
    own: Option<(&'a str, Option<SwitchingState>)>,
    /// The state into which all strata are put that are looser.
    demotion: Option<PlanState>,
    why: String,
}
