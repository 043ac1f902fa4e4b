//! Inclusion probabilities: how likely each ended action is audited, fixed before anybody has audited it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use countersign_core::{action::State, audit::ForcedReason, ids::ActionId};
use countersign_policy::{AuditSpec, Ended, Policy};
use countersign_statistics::switching::PlanState;
use countersign_store::{
    StoreError, Transaction,
    actions::ActionRecord,
    expected,
    sampling::{self, NewDraw},
};
use serde::Deserialize;

use crate::shared::Sampler;

/// Why π is 1 regardless of the rule, and the cap on such audits.
type Forced = Option<(ForcedReason, Option<u32>)>;

/// Makes the draws for actions that have ended. An action in doubt is always audited: somebody must resolve it.
pub(crate) async fn draw(
    sampler: &Sampler,
    tx: &Transaction,
    policy: &Policy,
    epoch: i64,
    records: &[&ActionRecord],
) -> Result<Vec<NewDraw>, StoreError> {
    let forced = forced(tx, policy, epoch, records).await?;
    let rates = Rates::of(sampler, tx, policy, epoch, records).await?;
    let drawn = |(record, forced): (&&ActionRecord, Forced)| {
        let executed = record.status.state.executed();
        let (wanted, pi) = match forced {
            Some(_) => (1.0, 1.0),
            None if executed => rates.pi(policy, record),
            None => (policy.audits().not_executed, policy.audits().not_executed),
        };
        let draw = sampler.keys.keyed_sampler.draw(epoch, &record.reference.source, &record.reference.id, pi);
        let stratum = record.status.stratum.clone();
        NewDraw { action: record.id, epoch, stratum, draw, wanted, forced, executed }
    };
    Ok(records.iter().zip(forced).map(drawn).collect())
}

/// How an executed action is audited.
fn spec(policy: &Policy, record: &ActionRecord) -> AuditSpec {
    let status = &record.status;
    policy.inclusion(&Ended {
        rule: &status.rule,
        rate: status.audit_rate,
        score: status.audit_score,
        approved: !status.approvers.is_empty(),
        group: &status.audit_group,
        tighter: status.plan_state.map_or(1.0, PlanState::tighter),
        executed: status.state.executed(),
    })
}

/// What rates depend on besides the rule.
struct Rates {
    expected: HashMap<String, u64>,
    /// By group and agent.
    remaining: HashMap<(String, String), f64>,
}

impl Rates {
    /// Queries nothing unless the policy demands a number of audits or limits a group's capacity.
    async fn of(
        sampler: &Sampler,
        tx: &Transaction,
        policy: &Policy,
        epoch: i64,
        records: &[&ActionRecord],
    ) -> Result<Self, StoreError> {
        let executed = || records.iter().filter(|record| record.status.state.executed());
        let counted = executed().filter(|record| spec(policy, record).at_least > 0);
        let strata: BTreeSet<&str> = counted.map(|record| record.status.stratum.as_str()).collect();
        let capacity = &policy.audits().capacity;
        let hours = sampler.epoch_seconds() as f64 / 3_600.0;
        let groups: BTreeMap<&str, f64> = executed()
            .filter_map(|record| {
                let (group, an_hour) = capacity.get_key_value(&record.status.audit_group)?;
                Some((group.as_str(), an_hour * hours))
            })
            .collect();
        let expected = match strata.is_empty() {
            true => HashMap::new(),
            false => expected::of_strata(tx, epoch, &strata).await?,
        };
        let remaining = match groups.is_empty() {
            true => HashMap::new(),
            false => expected::of_groups(tx, epoch, &groups).await?,
        };
        Ok(Self { expected, remaining })
    }

    /// π before and after the capacity limit.
    fn pi(&self, policy: &Policy, record: &ActionRecord) -> (f64, f64) {
        let spec = spec(policy, record);
        let expected = self.expected.get(&record.status.stratum).copied().unwrap_or_default();
        let wanted = spec.wanted(expected);
        let key = (spec.group.clone(), record.agent.clone());
        (wanted, spec.pi(wanted, self.remaining.get(&key).copied().unwrap_or(1.0)))
    }
}

/// Which actions must be audited: those in doubt, an agent's first of something new, and its failed ones. Each reason but the
/// first has a cap for each agent, so that none uses up what is meant for others; beyond it an action is drawn like all
/// others.
async fn forced(
    tx: &Transaction,
    policy: &Policy,
    epoch: i64,
    records: &[&ActionRecord],
) -> Result<Vec<Forced>, StoreError> {
    let audits = policy.audits();
    let first = |record: &&ActionRecord| match record.status.state.executed() && audits.first > 0 {
        true => novelties(record),
        false => vec![],
    };
    let mut novelties: Vec<Vec<Novelty>> = records.iter().map(first).collect();
    retain_within_budget(tx, epoch, records, &mut novelties).await?;
    let names: Vec<Vec<(ForcedReason, String, u32)>> = records
        .iter()
        .zip(novelties)
        .map(|(record, novelties)| {
            let first = novelties.into_iter().map(|novelty| (novelty.reason, novelty.name, audits.first));
            let failed = record.status.state == State::Failed && audits.failed > 0;
            let failed = failed.then(|| format!("failed/{epoch}/{}", record.agent));
            first.chain(failed.map(|name| (ForcedReason::Failed, name, audits.failed))).collect()
        })
        .collect();
    let caps: BTreeMap<String, u32> =
        names.iter().flatten().map(|(_, name, cap)| (name.clone(), *cap)).collect();
    let full = if caps.is_empty() { BTreeSet::new() } else { expected::full(tx, &caps).await? };
    let open: BTreeSet<String> = caps.into_keys().filter(|name| !full.contains(name)).collect();
    let mut counts =
        if open.is_empty() { HashMap::new() } else { expected::forced_counts(tx, &open).await? };
    // Read under the locks: another sampler with the same pack may just have counted the action.
    let ids: Vec<ActionId> = records.iter().map(|record| record.id).collect();
    let counted = if counts.is_empty() { HashSet::new() } else { sampling::drawn(tx, &ids).await? };
    let mut all = Vec::with_capacity(records.len());
    for (record, mut names) in records.iter().zip(names) {
        names.retain(|_| !counted.contains(&record.id));
        let mut forced = (record.status.state == State::InDoubt).then_some((ForcedReason::InDoubt, None));
        for (reason, name, cap) in names {
            // An action that is audited anyway does not count against the cap of failures, but does count as one of the first.
            if reason == ForcedReason::Failed && forced.is_some() {
                continue;
            }
            if let Some(count) = counts.get_mut(&name).filter(|count| **count < u64::from(cap)) {
                *count += 1;
                forced = forced.or(Some((reason, Some(cap))));
            }
        }
        all.push(forced);
    }
    if !counts.is_empty() {
        expected::store_forced_counts(tx, &counts).await?;
    }
    Ok(all)
}

/// How many new versions and models of an agent are audited from their first action on, in an epoch.
const NEW_NAMES: u64 = 10;

/// Something that may be new about an action.
struct Novelty {
    reason: ForcedReason,
    name: String,
    /// Whether the agent chooses the name.
    invented: bool,
}

/// Leaves out names that an agent invented beyond [`NEW_NAMES`]: they would be audited one and all, and kept for ever.
async fn retain_within_budget(
    tx: &Transaction,
    epoch: i64,
    records: &[&ActionRecord],
    novelties: &mut [Vec<Novelty>],
) -> Result<(), StoreError> {
    let budget = |record: &ActionRecord| format!("names/{epoch}/{}", record.agent);
    let invented: BTreeMap<String, String> = records
        .iter()
        .zip(novelties.iter())
        .flat_map(|(record, of)| of.iter().map(|novelty| (novelty, budget(record))))
        .filter(|(novelty, _)| novelty.invented)
        .map(|(novelty, budget)| (novelty.name.clone(), budget))
        .collect();
    let names: Vec<&str> = invented.keys().map(String::as_str).collect();
    let known = expected::known(tx, &names).await?;
    if known.len() == names.len() {
        return Ok(());
    }
    let budgets: BTreeSet<String> = invented
        .iter()
        .filter(|(name, _)| !known.contains(*name))
        .map(|(_, budget)| budget.clone())
        .collect();
    let mut taken = expected::forced_counts(tx, &budgets).await?;
    // Read again under the locks: another sampler may have met the same names.
    let mut known = expected::known(tx, &names).await?;
    for (record, of) in records.iter().zip(novelties) {
        let Some(taken) = taken.get_mut(&budget(record)) else { continue };
        of.retain(|novelty| {
            if !novelty.invented || known.contains(&novelty.name) {
                return true;
            }
            let within = *taken < NEW_NAMES;
            if within {
                *taken += 1;
                known.insert(novelty.name.clone());
            }
            within
        });
    }
    expected::store_forced_counts(tx, &taken).await
}

/// What may be new about an action: its agent's version, and the model, policy and tool version to this agent. Names
/// that agents choose are truncated.
fn novelties(record: &ActionRecord) -> Vec<Novelty> {
    #[derive(Default, Deserialize)]
    struct Content {
        agent: Agent,
        target: Target,
    }
    #[derive(Default, Deserialize)]
    struct Agent {
        version: Option<String>,
        model: Option<String>,
    }
    #[derive(Default, Deserialize)]
    struct Target {
        version: String,
    }
    let content =
        record.content.as_deref().and_then(|content| serde_json::from_slice::<Content>(content).ok());
    let Content { agent, target } = content.unwrap_or_default();
    let truncated = |name: Option<String>| name.unwrap_or_default().chars().take(64).collect::<String>();
    let (id, tool) = (&record.agent, &record.tool);
    let new = |reason, name, invented| Novelty { reason, name, invented };
    vec![
        new(ForcedReason::NewAgent, format!("agent/{id}@{}", truncated(agent.version)), true),
        new(ForcedReason::NewModel, format!("model/{id}/{}", truncated(agent.model)), true),
        new(ForcedReason::NewPolicy, format!("policy/{id}/{}", record.status.policy_version), false),
        new(ForcedReason::NewTool, format!("tool/{id}/{tool}@{}", target.version), false),
    ]
}
