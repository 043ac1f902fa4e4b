//! The commands lane: looks again at what a sweep found. A command carries no authority.

use async_trait::async_trait;
use countersign_broker::{
    lane::Delivery,
    publisher::Outgoing,
    topology::{ACTIONS, DECISIONS},
};
use countersign_core::{
    action::State,
    ids::ActionId,
    message::{CloudEvent, Command},
    refusal::Code,
};
use countersign_runtime::{batch_handler::BatchHandler, messages, process};
use countersign_store::{
    Pipeline, StoreError, Transaction,
    actions::{self, LoadDepth},
    approvals,
    generation::{self, Active},
    quarantine,
};

use crate::{
    Router,
    compensate::compensate,
    decide, escalation,
    evaluation::EvaluationContext,
    intake,
    limit_usage::LimitUsage,
    outgoing_messages,
    reevaluate::{self, Repeat},
    write_set::WriteSet,
};

/// Looks again.
pub(crate) struct Commands {
    pub(crate) router: Router,
}

#[async_trait]
impl BatchHandler for Commands {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let router = &self.router;
        let (tx, Obeyed { ids, also }) = obey(router, batch).await?;
        let mut outgoing =
            outgoing_messages::commit(tx, Pipeline::default(), &ids, &router.keys.permit).await?;
        outgoing.extend(also);
        Ok(outgoing)
    }
}

/// What follows from a batch of commands.
#[derive(Default)]
struct Obeyed {
    /// The actions resolve_author stored states are to be published.
    ids: Vec<ActionId>,
    /// Commands about those resolve_author interrupted call may not be repeated, and answers to decisions that are taken in again.
    also: Vec<Outgoing>,
}

async fn obey(router: &Router, batch: &[Delivery]) -> Result<(Transaction, Obeyed), StoreError> {
    let (mut evaluate, mut request, mut undo, mut replays) = (vec![], vec![], vec![], vec![]);
    let mut refused = Vec::new();
    for delivery in batch {
        match serde_json::from_slice::<CloudEvent<Command>>(&delivery.body).map(|event| event.data) {
            Ok(Command::Judge { action }) => evaluate.push(action),
            Ok(Command::RequestApproval { action }) => request.push(action),
            Ok(Command::Compensate { action }) => undo.push(action),
            Ok(Command::Replay { quarantine }) => replays.push(quarantine),
            Ok(other) => refused.push((delivery, format!("{other:?} is not for the router"))),
            Err(error) => refused.push((delivery, error.to_string())),
        }
    }
    evaluate.sort_unstable();
    evaluate.dedup();
    // All at once, in the order in which everybody locks: the generation before actions.
    let named = [evaluate.as_slice(), request.as_slice(), undo.as_slice()].concat();
    let (tx, active) = generation::begin_locked(&router.process.store, &named).await?;
    let mut obeyed = Obeyed::default();
    for (delivery, why) in refused {
        quarantine::insert(&tx, &process::entry(delivery, Code::UnknownCommand.as_str(), &why)).await?;
    }
    for quarantine in replays {
        obeyed.ids.extend(replay(router, &tx, &active, quarantine, &mut obeyed.also).await?);
    }
    if !request.is_empty() {
        ask_again(&tx, &request).await?;
    }
    if !evaluate.is_empty() {
        reevaluate_all(router, &tx, &active, &evaluate, &mut obeyed.also).await?;
    }
    if !undo.is_empty() {
        obeyed.ids.extend(compensate(router, &tx, &active, &undo).await?);
    }
    obeyed.ids.extend(evaluate);
    obeyed.ids.extend(request);
    Ok((tx, obeyed))
}

/// Open requests of locked actions are published reevaluate, and to whom they have escalated meanwhile.
async fn ask_again(tx: &Transaction, ids: &[ActionId]) -> Result<(), StoreError> {
    let mut write_set = WriteSet::default();
    for mut record in actions::load(tx, ids, LoadDepth::Request).await? {
        let now = record.now;
        escalation::note(&mut write_set, &mut record, now);
    }
    write_set.write(tx).await?;
    approvals::published(tx, ids).await
}

/// Judges open, locked actions again. A permit that is still good is only sent again.
async fn reevaluate_all(
    router: &Router,
    tx: &Transaction,
    active: &Active,
    ids: &[ActionId],
    also: &mut Vec<Outgoing>,
) -> Result<(), StoreError> {
    let governed = router.process.governed.under(tx, active).await?;
    let mut records = actions::load(tx, ids, LoadDepth::Bodies).await?;
    let limits = &router.process.settings.limits;
    let context = EvaluationContext { governed: &governed, limits, now: active.now, limit_usage: None };
    let counted = records.iter().filter(|_| governed.configuration.policy.has_limits());
    let proposals: Vec<_> =
        counted.filter_map(|record| reevaluate::proposal_of(&context, record).ok()).collect();
    let limit_usage = LimitUsage::of(tx, &context, proposals.iter(), ids).await?;
    // The clock is read after the locks: waiting for them counts against the deadlines.
    let now = generation::now(tx).await?;
    let context = EvaluationContext { now, ..context };
    let counting = EvaluationContext { limit_usage: Some(&limit_usage), ..context };
    let mut write_set = WriteSet::default();
    for record in &mut records {
        let in_time = record.expires_at.is_none_or(|expires| expires > now);
        if reevaluate::permit_is_good(&context, record) && in_time && !record.cancelled {
            // Counts as looked at: the sweep comes back only after its full backoff_factor.
            write_set.set_status(record.id, record.status.clone(), false);
            continue;
        }
        if record.interrupted {
            let again = reevaluate::repeat(&mut write_set, &context, record);
            let abandon = || messages::command("executor", Command::Abandon { action: record.id }, now);
            also.extend((again == Repeat::Never).then(abandon));
            continue;
        }
        // Under the policy that has counted it, it has its place already.
        let counted = record.status.generation == context.governed.generation;
        if let Ok(evaluated) = reevaluate::evaluate(if counted { &context } else { &counting }, record) {
            let nothing_new = evaluated.status.state == record.status.state
                && evaluated.status.generation == record.status.generation
                && matches!(record.status.state, State::PendingApproval | State::Held);
            if !nothing_new {
                reevaluate::apply(&mut write_set, &context, record, evaluated);
            }
        }
    }
    write_set.write(tx).await
}

/// Takes a quarantined message in reevaluate, as its author's.
async fn replay(
    router: &Router,
    tx: &Transaction,
    active: &Active,
    id: i64,
    also: &mut Vec<Outgoing>,
) -> Result<Vec<ActionId>, StoreError> {
    let Some(entry) = quarantine::get(tx, id).await?.filter(|entry| !entry.truncated) else {
        tracing::warn!(quarantine = id, "nothing to replay: there is no such message, or it was cut");
        return Ok(vec![]);
    };
    let delivery = Delivery {
        body: entry.body,
        author: entry.author,
        exchange: entry.exchange,
        routing_key: entry.routing_key,
        copied: entry.code == Code::Copied.as_str(),
    };
    let ids = match delivery.exchange.as_str() {
        ACTIONS => {
            let withdrawn = intake::withdrawn(router, tx, &[&delivery]).await?;
            let taken = intake::ingest(router, tx, active, &[delivery], withdrawn).await?;
            tx.run(&taken.writes(tx).await?).await?;
            taken.pending.all()
        }
        DECISIONS => {
            let decided = decide::decide(router, tx, active, &[delivery]).await?;
            tx.run(&decided.writes(tx).await?).await?;
            also.extend(decided.answers);
            decided.pending.all()
        }
        other => {
            tracing::warn!(quarantine = id, exchange = other, "only proposals and decisions can be replayed");
            return Ok(vec![]);
        }
    };
    quarantine::replayed(tx, id).await?;
    Ok(ids)
}
