//! Agents withdraw their actions: before the proposal arrives, or until an executor has claimed it.

use countersign_broker::lane::Delivery;
use countersign_core::{
    evidence::{CancellationRefused, Event},
    ids::{ActionId, ActionRef, NAME_MAX, is_name},
    message::{CancelData, CloudEvent},
    refusal::{Code, Complaint},
};
use countersign_runtime::{author, process};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, LoadDepth},
    cancellations,
    evidence::{self, Evidence},
    quarantine, waiting,
};

use crate::{context::EvaluationContext, reevaluate, write_set::WriteSet};

/// A cancellation and the delivery that carried it.
pub(crate) type Withdrawal<'a> = (&'a Delivery, Result<Box<CloudEvent<CancelData>>, Complaint>);

/// Applies a batch of withdrawals. Returns the stored actions that they name.
pub(crate) async fn withdraw(
    tx: &Transaction,
    context: &EvaluationContext<'_>,
    batch: &[Withdrawal<'_>],
) -> Result<Vec<ActionId>, StoreError> {
    let (mut references, mut agents) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for (delivery, event) in batch {
        match authorise(context, delivery, event) {
            Ok((agent, reference)) => {
                agents.push(agent);
                references.push(reference);
            }
            Err((code, why)) => {
                tracing::warn!(%code, why, "withdrawal quarantined");
                quarantine::insert(tx, &process::entry(delivery, code, &why)).await?;
            }
        }
    }
    if references.is_empty() {
        return Ok(vec![]);
    }
    let references: Vec<&ActionRef> = references.iter().collect();
    cancellations::insert(tx, &references).await?;
    let ids: Vec<ActionId> = actions::find(tx, &references).await?.iter().map(|known| known.id).collect();
    let mut write_set = WriteSet::default();
    for mut record in actions::lock_and_load(tx, &ids, LoadDepth::Bodies).await? {
        let context = EvaluationContext { now: record.now, ..*context };
        let before = record.status.state;
        match reevaluate::withdraw(&context, &record) {
            Ok(evaluated) => reevaluate::apply(&mut write_set, &context, &mut record, evaluated),
            // Claimed or ended: too late, and the outcome informs the agent.
            Err(_) => {
                let noted = CancellationRefused { code: Code::TooLate, state: before };
                evidence::insert(tx, &[Evidence::of(record.id, Event::CancellationRefused(noted))]).await?;
            }
        }
    }
    // After the actions, which the commands lane locks first as well.
    let named: Vec<&str> = references.iter().map(|reference| reference.id.as_str()).collect();
    waiting::withdraw(tx, &agents, &named).await?;
    write_set.write(tx).await?;
    Ok(ids)
}

/// The agent that withdraws, and the action that it names: its own.
fn authorise<'a>(
    context: &EvaluationContext<'a>,
    delivery: &Delivery,
    event: &Result<Box<CloudEvent<CancelData>>, Complaint>,
) -> Result<(&'a str, ActionRef), Complaint> {
    let user = author::of(delivery)?;
    let agent = context.configuration().directory.agent_of_user(user);
    let agent = agent.ok_or_else(|| author::unknown(user, "agent"))?;
    let event = event.as_ref().map_err(Clone::clone)?;
    let named = &event.data.action;
    let source = named.source.as_ref().unwrap_or(&event.source);
    if event.source != agent.source() || *source != agent.source() {
        let why = format!("`source` is {:?}; it must be {:?}", event.source, agent.source());
        return Err((Code::SourceForged, why));
    }
    if !is_name(&named.id) {
        let why = format!("`data.action.id` must have 1 to {NAME_MAX} bytes and no control characters");
        return Err((Code::InvalidCancellation, why));
    }
    Ok((agent.id.as_str(), ActionRef { source: source.clone(), id: named.id.clone() }))
}
