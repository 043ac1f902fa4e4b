//! The programs of others in a measurement: four agents, and a reviewer who approves at once.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::{Outgoing, Publisher},
    session::Session,
};
use countersign_core::{
    message::{ApprovalRequest, CloudEvent, Decision},
    signed::Signer,
};
use countersign_testkit::clients::{decision, proposal, signed};
use futures_util::{StreamExt as _, future::try_join_all};
use lapin::{
    Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// The agents of the measured directory.
pub(super) const AGENTS: [&str; 4] = ["one", "two", "three", "four"];

/// The size of a proposal, in bytes.
const BYTES: usize = 600;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where an agent publishes, and where it is answered.
#[derive(Clone)]
pub(super) struct Place {
    /// The agent's own URL.
    pub(super) url: String,
    pub(super) agent: &'static str,
    pub(super) exchange: &'static str,
    pub(super) routing_key: &'static str,
    pub(super) outcomes: String,
    pub(super) tool: &'static str,
}

/// An agent at work.
pub(super) struct Client {
    place: Place,
    publisher: Publisher,
    outcomes: Consumer,
    _session: Session,
}

/// What is read of an outcome where it must be told whose it is.
#[derive(Deserialize)]
struct Outcome {
    data: About,
}

#[derive(Deserialize)]
struct About {
    action: Id,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Client {
    pub(super) async fn connect(place: Place) -> anyhow::Result<Self> {
        let session = Session::open(&place.url, "bench").await?;
        session.channel.basic_qos(1_024, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let queue = place.outcomes.as_str().into();
        let outcomes =
            session.channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
        Ok(Self {
            publisher: Publisher::connect(&place.url, "bench").await?,
            outcomes,
            place,
            _session: session,
        })
    }

    fn body(&self, id: &str, n: usize) -> Vec<u8> {
        let of = |filler: &str| {
            let arguments = json!({"n": n, "filler": filler});
            let event: Value = proposal(self.place.agent, id, self.place.tool, arguments);
            event.to_string()
        };
        let filler = BYTES.saturating_sub(of("").len());
        of(&"x".repeat(filler)).into_bytes()
    }

    fn message(&self, id: String, n: usize) -> Outgoing {
        let body = self.body(&id, n);
        let Place { exchange, routing_key, .. } = self.place;
        Outgoing { exchange, routing_key: routing_key.into(), message_id: id, body }
    }

    /// Proposes all at once, in windows of 256, and waits for every outcome.
    async fn burst(&mut self, prefix: &str, count: usize) -> anyhow::Result<()> {
        let messages: Vec<Outgoing> =
            (0..count).map(|n| self.message(format!("{prefix}-{}-{n}", self.place.agent), n)).collect();
        let Self { publisher, outcomes, .. } = self;
        let publish = async {
            for window in messages.chunks(256) {
                publisher.publish(window).await?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(publish, drain(outcomes, count))?;
        Ok(())
    }

    /// Proposes at a steady rate. Returns the seconds between each proposal and its outcome.
    async fn steady(&mut self, prefix: &str, count: usize, every: Duration) -> anyhow::Result<Vec<f64>> {
        let messages: Vec<Outgoing> =
            (0..count).map(|n| self.message(format!("{prefix}-{}-{n}", self.place.agent), n)).collect();
        let (sent, mut told) = tokio::sync::mpsc::unbounded_channel();
        let Self { publisher, outcomes, .. } = self;
        let publish = async {
            let mut ticks = tokio::time::interval(every);
            for message in messages {
                ticks.tick().await;
                let _ = sent.send((message.message_id.clone(), Instant::now()));
                publisher.publish(&[message]).await?;
            }
            anyhow::Ok(())
        };
        let listen = async {
            let (mut times, mut started) = (Vec::with_capacity(count), HashMap::new());
            while times.len() < count {
                let delivery = tokio::time::timeout(PATIENCE, outcomes.next()).await?;
                let delivery = delivery.context("the consumer ended")??;
                let now = Instant::now();
                delivery.ack(BasicAckOptions::default()).await?;
                let outcome: Outcome = serde_json::from_slice(&delivery.data)?;
                while let Ok((id, at)) = told.try_recv() {
                    started.insert(id, at);
                }
                times.extend(
                    started.remove(&outcome.data.action.id).map(|at: Instant| (now - at).as_secs_f64()),
                );
            }
            anyhow::Ok(times)
        };
        Ok(tokio::try_join!(publish, listen)?.1)
    }
}

/// Takes outcomes until so many different ones have come.
async fn drain(outcomes: &mut Consumer, count: usize) -> anyhow::Result<()> {
    let mut seen = HashSet::with_capacity(count);
    while seen.len() < count {
        let delivery = tokio::time::timeout(PATIENCE, outcomes.next()).await;
        let delivery = delivery.with_context(|| format!("{} of {count} answered", seen.len()))?;
        let delivery = delivery.context("the consumer ended")??;
        let id = delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
        seen.insert(id.context("an outcome has no id")?);
        if seen.len() % 256 == 0 || seen.len() == count {
            delivery.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}

/// Actions per second from the first publish to the last outcome, over all agents.
pub(super) async fn burst(clients: &mut [Client], prefix: &str, count: usize) -> anyhow::Result<f64> {
    let each = count / clients.len().max(1);
    ensure!(each > 0, "give each agent at least one action");
    let started = Instant::now();
    let sum = each * clients.len();
    try_join_all(clients.iter_mut().map(|client| client.burst(prefix, each))).await?;
    Ok(sum as f64 / started.elapsed().as_secs_f64())
}

/// Sorted seconds from proposal to outcome at `rate` actions a second over all agents, for about `seconds`.
pub(super) async fn steady(
    clients: &mut [Client],
    prefix: &str,
    rate: f64,
    seconds: f64,
) -> anyhow::Result<Vec<f64>> {
    let each = (rate * seconds / clients.len() as f64).ceil() as usize;
    let every = Duration::from_secs_f64(clients.len() as f64 / rate);
    let times = try_join_all(clients.iter_mut().map(|client| client.steady(prefix, each, every))).await?;
    let mut times: Vec<f64> = times.into_iter().flatten().collect();
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// A reviewer's program: approves every request at once, each with a signature of its own.
pub(super) struct Approves(pub(super) Signer);

#[async_trait]
impl Handler for Approves {
    async fn ready(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let decide = |delivery: &Delivery| {
            let request: CloudEvent<ApprovalRequest> =
                serde_json::from_slice(&delivery.body).map_err(|error| Failure::Reset(error.to_string()))?;
            Ok(signed(&self.0, &[decision(&request.data, Decision::Approve, None)]))
        };
        batch.iter().map(decide).collect()
    }

    async fn quarantine(&mut self, _: &Delivery, code: &str, reason: &str) -> Result<(), Failure> {
        Err(Failure::Reset(format!("{code}: {reason}")))
    }
}
