//! The turn of proposals that wait because their agents were over their quotas.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use countersign_broker::{lane::Delivery, publisher::Outgoing, topology::commands_queue};
use countersign_core::{
    ids::{ActionId, ActionRef},
    message::{CloudEvent, Command},
    refusal::Code,
};
use countersign_runtime::{
    messages,
    process::{self, Process},
    sweep::{Load, Sweeper},
};
use countersign_store::{
    Store, StoreError, Transaction, actions,
    generation::{self, Active},
    quarantine,
    waiting::{self, Waiting},
};

use crate::{context::EvaluationContext, inbound::Inbound, incoming::Incoming, intake, shared::Router};

/// How soon a turn comes once there is room.
const EVERY: Duration = Duration::from_millis(250);

/// Calls proposals whose turn has come.
pub(crate) struct Turns {
    process: Process,
    commands: String,
}

impl Turns {
    pub(crate) fn new(process: &Process) -> Self {
        Self { process: process.clone(), commands: commands_queue("router") }
    }
}

#[async_trait]
impl Sweeper for Turns {
    fn every(&self, _: Duration) -> Duration {
        EVERY
    }

    fn input(&self) -> Option<&str> {
        Some(&self.commands)
    }

    async fn due(&mut self, tx: &Transaction, load: Load) -> Result<Vec<Outgoing>, StoreError> {
        // What was called before has not been admitted yet.
        if !load.caught_up {
            return Ok(vec![]);
        }
        let agents = waiting::agents(tx).await?;
        if agents.is_empty() {
            return Ok(vec![]);
        }
        // Nothing is decided here: what this process has last seen in force is good enough.
        let governed = self.process.governed.latest();
        let directory = governed.as_ref().map(|governed| &governed.configuration.directory);
        let names: Vec<&str> = agents.iter().map(String::as_str).collect();
        let now = generation::now(tx).await?;
        let room = |(agent, usage): (String, _)| {
            let own = directory.and_then(|directory| directory.agent(&agent)).map(|agent| agent.quotas);
            let quotas = self.process.settings.quotas.of(&own.unwrap_or_default());
            let room = quotas.room(&usage, now);
            (agent, room)
        };
        let rooms: BTreeMap<String, u64> = waiting::usage(tx, &names).await?.into_iter().map(room).collect();
        let called = waiting::call(tx, &rooms).await?;
        let command = |waiting: i64| messages::command("router", Command::Admit { waiting }, now);
        Ok(called.into_iter().map(command).collect())
    }
}

/// Processes proposals that have waited, as if they had just arrived. One that has been processed before, because the
/// command came again, leads to the same messages.
pub(crate) async fn admit(
    router: &Router,
    tx: &Transaction,
    active: &Active,
    ids: &[i64],
) -> Result<Vec<ActionId>, StoreError> {
    let governed = router.process.governed.under(tx, active).await?;
    let settings = &router.process.settings;
    let context = EvaluationContext { governed: &governed, limits: &settings.limits, now: active.now };
    let (before, rows): (Vec<_>, Vec<_>) =
        waiting::lock(tx, ids).await?.into_iter().partition(|row| row.admitted);
    let before: Vec<ActionRef> = before.into_iter().map(reference).collect();
    let before = actions::find(tx, &before.iter().collect::<Vec<_>>()).await?;
    let deliveries: Vec<(Delivery, bool)> = rows.into_iter().map(delivery).collect();
    let incoming: Vec<Incoming<'_>> = deliveries
        .iter()
        .map(|(delivery, _)| Incoming::of(Inbound::decode(delivery, settings.limits.message_bytes)))
        .collect();
    let mut withdrawn: Vec<ActionRef> =
        intake::withdrawn(tx, incoming.iter().map(|incoming| &incoming.inbound)).await?;
    let marked = incoming.iter().zip(&deliveries).filter(|(_, (_, withdrawn))| *withdrawn);
    withdrawn.extend(marked.filter_map(|(incoming, _)| incoming.inbound.proposes().cloned()));
    let mut counts = BTreeMap::new();
    for (delivery, _) in &deliveries {
        let user = delivery.author.as_deref().unwrap_or_default();
        if let Some(agent) = governed.configuration.directory.agent_of_user(user) {
            let seconds = settings.quotas.of(&agent.quotas).seconds_for(1);
            *counts.entry(agent.id.clone()).or_insert(0.0) += seconds;
        }
    }
    let mut result = intake::accept(router, tx, &context, incoming, withdrawn.into_iter().collect()).await?;
    result.use_rates(counts);
    tx.run(&result.writes(tx).await?).await?;
    waiting::admitted(tx, ids).await?;
    let before = before.into_iter().map(|known| known.id);
    Ok(result.pending.all().into_iter().chain(before).collect())
}

/// The waiting proposal that a command names.
pub(crate) fn named(command: &Delivery) -> Option<i64> {
    match serde_json::from_slice::<CloudEvent<Command>>(&command.body).ok()?.data {
        Command::Admit { waiting } => Some(waiting),
        _ => None,
    }
}

/// Quarantines a proposal that cannot be processed when its turn has come, in place of the command that names it.
pub(crate) async fn quarantine(store: &Store, id: i64, code: Code, reason: &str) -> Result<(), StoreError> {
    let tx = store.transaction().await?;
    let rows = waiting::lock(&tx, &[id]).await?;
    for (delivery, _) in rows.into_iter().filter(|row| !row.admitted).map(delivery) {
        tracing::warn!(%code, reason, exchange = delivery.exchange, "message quarantined");
        quarantine::insert(&tx, &process::entry(&delivery, code, reason)).await?;
    }
    waiting::admitted(&tx, &[id]).await?;
    tx.commit().await
}

/// The action that a proposal became.
fn reference(row: Waiting) -> ActionRef {
    ActionRef { source: ActionRef::source_of(&row.agent), id: row.event_id }
}

/// A waiting proposal as it was delivered, and whether its agent has withdrawn it.
fn delivery(row: Waiting) -> (Delivery, bool) {
    let delivery = Delivery {
        body: row.body,
        author: Some(row.author),
        exchange: row.exchange,
        routing_key: row.routing_key,
        copied: false,
        unreadable: None,
    };
    (delivery, row.withdrawn)
}
