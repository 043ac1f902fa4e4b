//! The commands lane: checks again what a sweep found. A command carries no authority.

use std::collections::HashMap;

use async_trait::async_trait;
use countersign_broker::{
    lane::Delivery,
    publisher::Outgoing,
    topology::{DECISIONS, takes_actions},
};
use countersign_core::{
    action::State,
    ids::ActionId,
    message::{CloudEvent, Command},
    refusal::Code,
};
use countersign_runtime::{batch_handler::BatchHandler, messages, process};
use countersign_store::{
    Pipeline, Store, StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    approvals,
    generation::{self, Active},
    quarantine,
};

use crate::{
    compensate::compensate,
    context::EvaluationContext,
    decide, escalation,
    inbound::Inbound,
    intake,
    limit_usage::LimitUsage,
    outgoing_messages,
    reevaluate::{self, Repeat, StoredEvaluation},
    shared::Router,
    turn,
    write_set::WriteSet,
};

/// Carries out commands.
pub(crate) struct Commands {
    pub(crate) router: Router,
}

#[async_trait]
impl BatchHandler for Commands {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let router = &self.router;
        let (tx, result) = carry_out(router, batch).await?;
        let mut outgoing =
            outgoing_messages::commit(tx, Pipeline::default(), &result.ids, &router.keys.permit).await?;
        outgoing.extend(result.outgoing);
        Ok(outgoing)
    }

    async fn quarantine(
        &mut self,
        store: &Store,
        delivery: &Delivery,
        code: Code,
        reason: &str,
    ) -> Result<(), StoreError> {
        match turn::named(delivery) {
            Some(id) => turn::quarantine(store, id, code, reason).await,
            None => process::keep(store, delivery, code, reason).await,
        }
    }
}

/// What follows from a batch of commands.
#[derive(Default)]
struct CommandsResult {
    /// The actions whose stored states are to be published.
    ids: Vec<ActionId>,
    /// Commands to abandon calls that may not be repeated, and answers to replayed decisions.
    outgoing: Vec<Outgoing>,
}

async fn carry_out(router: &Router, batch: &[Delivery]) -> Result<(Transaction, CommandsResult), StoreError> {
    let (mut evaluate, mut request, mut undo, mut replays) = (vec![], vec![], vec![], vec![]);
    let mut turns = Vec::new();
    let mut refused = Vec::new();
    for delivery in batch {
        match serde_json::from_slice::<CloudEvent<Command>>(&delivery.body).map(|event| event.data) {
            Ok(Command::Reevaluate { action }) => evaluate.push(action),
            Ok(Command::RequestApproval { action }) => request.push(action),
            Ok(Command::Compensate { action }) => undo.push(action),
            Ok(Command::Admit { waiting }) => turns.push(waiting),
            Ok(Command::Replay { quarantine }) => replays.push(quarantine),
            Ok(other) => refused.push((delivery, format!("{other:?} is not for the router"))),
            Err(error) => refused.push((delivery, error.to_string())),
        }
    }
    evaluate.sort_unstable();
    evaluate.dedup();
    // One statement locks in the lock order: the generation before actions.
    let named = [evaluate.as_slice(), request.as_slice(), undo.as_slice()].concat();
    let (tx, active) = generation::begin_locked(&router.process.store, &named).await?;
    let mut result = CommandsResult::default();
    for (delivery, why) in refused {
        quarantine::insert(&tx, &process::entry(delivery, Code::UnknownCommand, &why)).await?;
    }
    for quarantine in replays {
        result.ids.extend(replay(router, &tx, &active, quarantine, &mut result.outgoing).await?);
    }
    if !turns.is_empty() {
        result.ids.extend(turn::admit(router, &tx, &active, &turns).await?);
    }
    if !request.is_empty() {
        republish(&tx, &request).await?;
    }
    if !evaluate.is_empty() {
        reevaluate_all(router, &tx, &active, &evaluate, &mut result.outgoing).await?;
    }
    if !undo.is_empty() {
        result.ids.extend(compensate(router, &tx, &active, &undo).await?);
    }
    result.ids.extend(evaluate);
    result.ids.extend(request);
    Ok((tx, result))
}

/// Publishes the open requests of locked actions again, including to groups that they have escalated to since.
async fn republish(tx: &Transaction, ids: &[ActionId]) -> Result<(), StoreError> {
    let mut write_set = WriteSet::default();
    for mut record in actions::load(tx, ids, LoadDepth::Request).await? {
        let now = record.now;
        escalation::note(&mut write_set, &mut record, now);
    }
    write_set.write(tx).await?;
    approvals::published(tx, ids).await
}

/// Re-evaluates open, locked actions. A permit that can still be claimed is only sent again.
async fn reevaluate_all(
    router: &Router,
    tx: &Transaction,
    active: &Active,
    ids: &[ActionId],
    outgoing: &mut Vec<Outgoing>,
) -> Result<(), StoreError> {
    let governed = router.process.governed.under(tx, active).await?;
    let mut records = actions::load(tx, ids, LoadDepth::Bodies).await?;
    let limits = &router.process.settings.limits;
    let context = EvaluationContext { governed: &governed, limits, now: active.now };
    // An action that was evaluated under this generation has already been counted.
    let counts = |record: &ActionRecord| {
        governed.configuration.policy.has_limits() && record.status.generation != governed.generation
    };
    let evaluate = |record: &ActionRecord| (record.id, StoredEvaluation::new(&context, record));
    let mut evaluations: HashMap<_, _> =
        records.iter().filter(|record| counts(record) && !record.interrupted).map(evaluate).collect();
    let keys = evaluations.values().filter_map(StoredEvaluation::limit);
    let mut limit_usage = LimitUsage::lock(tx, keys, ids).await?;
    // The clock is read after the locks: waiting for them counts against the deadlines.
    let now = generation::now(tx).await?;
    let context = EvaluationContext { now, ..context };
    let mut write_set = WriteSet::default();
    for record in &mut records {
        let in_time = record.expires_at.is_none_or(|expires| expires > now);
        if reevaluate::is_permit_valid(&context, record) && in_time && !record.cancelled {
            // Touches the status, so that the sweep returns only after its full interval.
            write_set.set_status(record.id, record.status.clone(), false);
            continue;
        }
        if record.interrupted {
            let repeat = reevaluate::repeat(&mut write_set, &context, record);
            let abandon = || messages::command("executor", Command::Abandon { action: record.id }, now);
            outgoing.extend((repeat == Repeat::Never).then(abandon));
            continue;
        }
        let mut evaluation =
            evaluations.remove(&record.id).unwrap_or_else(|| StoredEvaluation::new(&context, record));
        if counts(record) {
            evaluation.admit(&mut limit_usage, record.id);
        }
        if let Ok(evaluated) = evaluation.resolve(&context, record) {
            let unchanged = evaluated.status.state == record.status.state
                && evaluated.status.generation == record.status.generation
                && matches!(record.status.state, State::PendingApproval | State::Held);
            if !unchanged {
                reevaluate::apply(&mut write_set, &context, record, evaluated);
            }
        }
    }
    write_set.write(tx).await
}

/// Processes a quarantined message again, as if its author had just sent it.
async fn replay(
    router: &Router,
    tx: &Transaction,
    active: &Active,
    id: i64,
    outgoing: &mut Vec<Outgoing>,
) -> Result<Vec<ActionId>, StoreError> {
    let Some(entry) = quarantine::get(tx, id).await?.filter(|entry| !entry.truncated) else {
        tracing::warn!(quarantine = id, "nothing to replay: there is no such message, or it was truncated");
        return Ok(vec![]);
    };
    let delivery = Delivery {
        body: entry.body,
        author: entry.author,
        exchange: entry.exchange,
        routing_key: entry.routing_key,
        // A header that cannot be read may be a CC header.
        copied: [Code::Copied, Code::UnreadableProperties].iter().any(|code| entry.code == code.as_str()),
        unreadable: None,
    };
    let ids = match delivery.exchange.as_str() {
        exchange if takes_actions(exchange) => {
            let inbound = Inbound::decode(&delivery, router.process.settings.limits.message_bytes);
            let withdrawn = intake::withdrawn(tx, std::iter::once(&inbound)).await?;
            let result = intake::ingest(router, tx, active, vec![inbound], withdrawn).await?;
            tx.run(&result.writes(tx).await?).await?;
            result.pending.all()
        }
        DECISIONS => {
            let decided = decide::decide(router, tx, active, &[delivery]).await?;
            tx.run(&decided.writes(tx).await?).await?;
            outgoing.extend(decided.answers);
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
