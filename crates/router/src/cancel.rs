//! Agents withdraw their actions: before the proposal arrives, or until an executor has claimed it.

use countersign_broker::lane::Delivery;
use countersign_core::{
    evidence::{CancellationRefused, Event},
    ids::{ActionId, ActionRef},
    json::parse_strict,
    message::{CancelData, CloudEvent, kind},
    refusal::{Code, Complaint},
};
use countersign_runtime::{author, process};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, LoadDepth},
    cancellations,
    evidence::{self, Evidence},
    quarantine,
};

use crate::{evaluation::EvaluationContext, reevaluate, write_set::WriteSet};

/// Whether a message withdraws an action, as far as its envelope can be read.
pub(crate) fn is_one(delivery: &Delivery) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope {
        #[serde(rename = "type")]
        kind: String,
    }
    serde_json::from_slice::<Envelope>(&delivery.body).is_ok_and(|envelope| envelope.kind == kind::CANCELLED)
}

/// Applies a batch of withdrawals. Returns the actions that they ended.
pub(crate) async fn withdraw(
    tx: &Transaction,
    context: &EvaluationContext<'_>,
    batch: &[&Delivery],
) -> Result<Vec<ActionId>, StoreError> {
    let mut references = Vec::with_capacity(batch.len());
    for delivery in batch {
        match decode(context, delivery) {
            Ok(reference) => references.push(reference),
            Err((code, why)) => {
                tracing::warn!(%code, why, "withdrawal quarantined");
                quarantine::insert(tx, &process::entry(delivery, code.as_str(), &why)).await?;
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
        match reevaluate::evaluate(&context, &record) {
            Ok(evaluated) => reevaluate::apply(&mut write_set, &context, &mut record, evaluated),
            // Claimed or ended: too late, and the outcome will say, or has said, how it went.
            Err(_) => {
                let noted = CancellationRefused { code: Code::TooLate, state: before };
                evidence::insert(tx, &[Evidence::of(record.id, Event::CancellationRefused(noted))]).await?;
            }
        }
    }
    write_set.write(tx).await?;
    Ok(ids)
}

fn decode(context: &EvaluationContext<'_>, delivery: &Delivery) -> Result<ActionRef, Complaint> {
    let user = author::of(delivery)?;
    let directory = &context.governed.configuration.directory;
    let agent = directory.agent_of_user(user).ok_or_else(|| author::unknown(user, "agent"))?;
    let value = parse_strict(&delivery.body).map_err(|error| (error.code(), error.to_string()))?;
    let event: CloudEvent<CancelData> =
        serde_json::from_value(value).map_err(|error| (Code::InvalidCancellation, error.to_string()))?;
    let source = event.data.action.source.unwrap_or_else(|| event.source.clone());
    if event.source != agent.source() || source != agent.source() {
        let why = format!("the source is {:?}, the author's is {:?}", event.source, agent.source());
        return Err((Code::SourceForged, why));
    }
    Ok(ActionRef { source, id: event.data.action.id })
}
