//! The settled lane: makes the sampling draws.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::refusal::Code;
use countersign_core::{
    action::State,
    evidence::{ActionLinkedBy, ActionSampled, Event, SelectedAudit},
    ids::{ActionId, AuditId},
    keyed::commitment,
    message::{AuditReason, CloudEvent, SettledPack},
};
use countersign_policy::Configuration;
use countersign_runtime::{batch_handler::BatchHandler, messages, process, remediation};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    audits::{self, NewAudit},
    epochs,
    evidence::{self, Evidence},
    generation, quarantine,
    sampling::{self, NewDraw},
};
use uuid::Uuid;

use crate::{
    draw::draw,
    gold,
    shared::Sampler,
    switching::{self, SwitchingInput},
};

/// The handler of the settled lane.
pub(crate) struct Samples {
    pub(crate) sampler: Sampler,
}

#[async_trait]
impl BatchHandler for Samples {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let sampler = &self.sampler;
        let tx = sampler.process.store.transaction().await?;
        let mut ids = Vec::new();
        for delivery in batch {
            match serde_json::from_slice::<CloudEvent<SettledPack>>(&delivery.body) {
                Ok(event) => ids.extend(event.data.actions),
                Err(error) => {
                    let why = error.to_string();
                    quarantine::insert(&tx, &process::entry(delivery, Code::PackMalformed, &why)).await?;
                }
            }
        }
        let active = generation::read(&tx).await?;
        let governed = sampler.process.governed.under(&tx, &active).await?;
        let configuration = &governed.configuration;
        let selected = sample(sampler, &tx, configuration, &ids).await?;
        let outgoing = requests(&tx, configuration, &selected).await?;
        tx.commit().await?;
        Ok(outgoing)
    }
}

/// Commits to an epoch's key before the first of its draws is stored.
async fn open_epoch(sampler: &Sampler, tx: &Transaction, epoch: i64) -> Result<(), StoreError> {
    let commitment = commitment(&sampler.keys.keyed_sampler.epoch_key(epoch));
    let end = epoch.saturating_add(1).saturating_mul(sampler.epoch_seconds());
    let ends_at = DateTime::from_timestamp(end, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    epochs::open(tx, epoch, &commitment, ends_at).await
}

/// Whether an action gets a draw: it was executed, or it was rejected or denied and its content is still there.
fn is_drawn(configuration: &Configuration, record: &ActionRecord) -> bool {
    let refused = matches!(record.status.state, State::Rejected | State::Denied) && record.content.is_some();
    let audited = configuration.policy.audits().not_executed > 0.0 || record.status.plan_state.is_some();
    record.status.state.executed() || (refused && audited)
}

/// Makes the draws that are missing and opens the audits of selected actions. Returns the actions of the batch that may have
/// an open audit.
async fn sample(
    sampler: &Sampler,
    tx: &Transaction,
    configuration: &Configuration,
    ids: &[ActionId],
) -> Result<Vec<ActionId>, StoreError> {
    // What undoes an action is computed from its proposal.
    let reversible = configuration.tools.iter().any(|tool| tool.reversible().is_some());
    let depth = if reversible { LoadDepth::Bodies } else { LoadDepth::Content };
    let records = actions::load(tx, ids, depth).await?;
    open_remediations(tx, configuration, &records).await?;
    warn_of_irreversible(configuration, &records);
    let policy = &configuration.policy;
    let ended: Vec<_> = records.iter().filter(|record| is_drawn(configuration, record)).collect();
    let ids: Vec<ActionId> = ended.iter().map(|record| record.id).collect();
    let known = sampling::drawn(tx, &ids).await?;
    let fresh: Vec<&ActionRecord> = ended.into_iter().filter(|record| !known.contains(&record.id)).collect();
    let Some(now) = fresh.iter().map(|record| record.now).max() else {
        return Ok(known.into_iter().collect());
    };
    let epoch = epochs::current(tx, now.timestamp().div_euclid(sampler.epoch_seconds())).await?;
    open_epoch(sampler, tx, epoch).await?;
    let draws = draw(sampler, tx, policy, epoch, &fresh).await?;
    let new: HashSet<ActionId> = sampling::insert(tx, &draws).await?.into_iter().collect();
    let (mut opened, mut evidence) = (Vec::new(), Vec::with_capacity(new.len()));
    let mut inputs = Vec::new();
    for (record, new_draw) in fresh.iter().zip(&draws).filter(|(record, _)| new.contains(&record.id)) {
        inputs.extend(SwitchingInput::ended(record, new_draw));
        let mut noted = describe(new_draw, record);
        if new_draw.draw.selected {
            let id = AuditId(Uuid::now_v7());
            let reference = &record.reference;
            let share = policy.audits().twice;
            let twice =
                sampler.keys.keyed_sampler.twice(new_draw.epoch, &reference.source, &reference.id, share);
            noted.audit = Some(SelectedAudit { id, group: record.status.audit_group.clone(), twice });
            let in_doubt = record.status.state == State::InDoubt;
            let reason = if in_doubt { AuditReason::InDoubt } else { AuditReason::Sampled };
            let group = record.status.audit_group.clone();
            opened.push(NewAudit { id, action: record.id, group, reason, twice });
        }
        evidence.push(Evidence::of(record.id, Event::ActionSampled(noted)));
        if let Some(undone) = record.compensates.filter(|_| record.status.state == State::Succeeded) {
            let by = ActionLinkedBy { by: record.id };
            evidence.push(Evidence::of(undone, Event::ActionCompensated(by)));
        }
    }
    audits::open(tx, &opened).await?;
    let selected = fresh.iter().zip(&draws);
    let selected = selected.filter(|(record, draw)| new.contains(&record.id) && draw.draw.selected);
    gold::draw(sampler, tx, policy.audits().gold, selected).await?;
    evidence::insert(tx, &evidence).await?;
    // A repeated pack may be about audits that are still open.
    let mut requested: Vec<ActionId> = known.into_iter().collect();
    requested.extend(opened.iter().map(|audit| audit.action));
    requested.extend(switching::apply(tx, policy, &inputs).await?);
    Ok(requested)
}

/// A draw as evidence.
fn describe(drawn: &NewDraw, record: &ActionRecord) -> ActionSampled {
    let (forced, cap) = drawn.forced.unzip();
    ActionSampled {
        epoch: drawn.epoch,
        stratum: drawn.stratum.clone(),
        executed: drawn.executed,
        pi: drawn.draw.pi,
        r: drawn.draw.r.to_string(),
        selected: drawn.draw.selected,
        wanted: drawn.wanted,
        forced,
        cap: cap.flatten(),
        score: record.status.audit_score,
        audit: None,
    }
}

/// A compensation that failed leaves something for people to remedy.
async fn open_remediations(
    tx: &Transaction,
    configuration: &Configuration,
    records: &[ActionRecord],
) -> Result<(), StoreError> {
    for record in records {
        let state = record.status.state;
        let Some(undone) = record.compensates.filter(|_| state.outcome().is_some()) else { continue };
        if !matches!(state, State::Succeeded | State::InDoubt) {
            let why = format!("its compensation ended as {state}");
            let group = &record.status.audit_group;
            remediation::open(tx, configuration, undone, group, &why).await?;
        }
    }
    Ok(())
}

/// Says at once where the compensation of an action cannot be built: an auditor may look much later, or never.
fn warn_of_irreversible(configuration: &Configuration, records: &[ActionRecord]) {
    for record in records {
        if let Some(why) = messages::cannot_be_undone(&configuration.tools, record) {
            tracing::warn!(action = %record.id, tool = record.tool, why, "no tool can undo this action");
        }
    }
}

/// The requests for the open audits of these actions.
pub(crate) async fn requests(
    tx: &Transaction,
    configuration: &Configuration,
    ids: &[ActionId],
) -> Result<Vec<Outgoing>, StoreError> {
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let open = audits::open_of(tx, ids).await?;
    let ids: Vec<ActionId> = open.iter().map(|audit| audit.action).collect();
    let records = actions::load(tx, &ids, LoadDepth::Bodies).await?;
    Ok(open
        .iter()
        .filter_map(|audit| {
            let record = records.iter().find(|record| record.id == audit.action)?;
            messages::audit_request(configuration, &audit.request(), record)
        })
        .collect())
}
