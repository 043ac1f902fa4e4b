//! The clients of a measurement: four agents, and a reviewer who approves every request immediately.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use countersign_broker::{
    lane::{self, Delivery, Failure, Handler, LaneSettings},
    publisher::{Outgoing, Publisher},
};
use countersign_core::{
    message::{ApprovalAnswer, ApprovalRequest, CloudEvent, Decision},
    refusal::Code,
    signed::Signer,
};
use countersign_testkit::clients::{decision, proposal, signed};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::interval_at,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The agents of the measured directory.
pub(super) const AGENTS: [&str; 4] = ["one", "two", "three", "four"];

/// The size of a proposal, in bytes.
const BYTES: usize = 600;

/// The timer's tolerance. A longer delay was caused by the machine, and counts.
const GRAIN: Duration = Duration::from_millis(2);

/// Longer than any outcome takes.
const OUTCOME_LIMIT: Duration = Duration::from_secs(120);

/// Where an agent publishes, and where it receives outcomes.
pub(super) struct Place {
    /// The agent's own URL.
    pub(super) url: String,
    pub(super) agent: &'static str,
    pub(super) exchange: String,
    pub(super) outcomes: String,
}

/// The tool that is proposed, and the routing key of the proposals.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) tool: &'static str,
    pub(super) routing_key: &'static str,
}

/// A connected agent. Dropping it stops its reader.
pub(super) struct Client {
    place: Place,
    publisher: Publisher,
    received: UnboundedReceiver<(String, Instant)>,
    _reading: DropGuard,
}

/// The part of an outcome that identifies its action.
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

/// Forwards the ids of actions whose outcomes arrive, with the time.
struct OutcomeTimes(UnboundedSender<(String, Instant)>);

#[async_trait]
impl Handler for OutcomeTimes {
    async fn ready(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let now = Instant::now();
        for delivery in batch {
            let outcome: Outcome = read(delivery)?;
            // The receiver is gone once the agent is dropped.
            let _ = self.0.send((outcome.data.action.id, now));
        }
        Ok(vec![])
    }

    async fn quarantine(&mut self, _: &Delivery, code: Code, reason: &str) -> Result<(), Failure> {
        Err(Failure::Unavailable(format!("{code}: {reason}")))
    }
}

fn read<T: DeserializeOwned>(delivery: &Delivery) -> Result<T, Failure> {
    serde_json::from_slice(&delivery.body).map_err(|error| Failure::Unavailable(error.to_string()))
}

/// The settings of a lane of a client.
pub(super) fn lane_of(url: &str, queue: String) -> LaneSettings {
    let handle_limit = Duration::from_secs(45);
    let queues = LaneSettings::one(&queue);
    LaneSettings {
        url: url.into(),
        input: queue,
        queues,
        batch_max: 256,
        linger: Duration::ZERO,
        handle_limit,
    }
}

impl Client {
    pub(super) async fn connect(place: Place) -> anyhow::Result<Self> {
        let publisher = Publisher::connect(&place.url, "bench").await?;
        let (sender, received) = mpsc::unbounded_channel();
        let (stop, settings) = (CancellationToken::new(), lane_of(&place.url, place.outcomes.clone()));
        tokio::spawn(lane::run("bench".into(), settings, OutcomeTimes(sender), stop.clone()));
        Ok(Self { place, publisher, received, _reading: stop.drop_guard() })
    }

    fn body(&self, tool: &str, id: &str, n: usize) -> Vec<u8> {
        let of = |filler: &str| {
            let arguments = json!({"n": n, "filler": filler});
            let event: Value = proposal(self.place.agent, id, tool, arguments);
            event.to_string()
        };
        let filler = BYTES.saturating_sub(of("").len());
        of(&"x".repeat(filler)).into_bytes()
    }

    fn messages(&self, way: Way, prefix: &str, count: usize) -> Vec<Outgoing> {
        let message = |n: usize| {
            let id = format!("{prefix}-{}-{n}", self.place.agent);
            let body = self.body(way.tool, &id, n);
            let routing_key = way.routing_key.into();
            Outgoing { exchange: self.place.exchange.clone().into(), routing_key, message_id: id, body }
        };
        (0..count).map(message).collect()
    }

    /// Proposes all at once, in windows of 256, and waits for every outcome.
    pub(super) async fn burst(&mut self, way: Way, prefix: &str, count: usize) -> anyhow::Result<()> {
        let messages = self.messages(way, prefix, count);
        let Self { publisher, received, .. } = self;
        let publish = async {
            for window in messages.chunks(256) {
                publisher.publish(window).await?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(publish, answers(received, prefix, count))?;
        Ok(())
    }

    /// Proposes at a steady rate from `first` on, whether or not what was proposed before is confirmed. Returns the seconds
    /// between each proposal and its outcome.
    pub(super) async fn steady(
        &mut self,
        way: Way,
        prefix: &str,
        count: usize,
        first: Instant,
        every: Duration,
    ) -> anyhow::Result<Vec<f64>> {
        let messages = stream::iter(self.messages(way, prefix, count));
        let Self { publisher, received, .. } = self;
        let ticks = stream::unfold(interval_at(first.into(), every), async |mut ticks| {
            let due = ticks.tick().await.into_std();
            let now = Instant::now();
            Some((if now - due > GRAIN { due } else { now }, ticks))
        });
        let publisher = &*publisher;
        let publish = messages.zip(ticks).map(async |(message, at)| {
            publisher.publish(std::slice::from_ref(&message)).await?;
            anyhow::Ok((message.message_id, at))
        });
        let publish = publish.buffer_unordered(count.max(1)).try_collect::<Vec<_>>();
        let (sent, came) = tokio::try_join!(publish, answers(received, prefix, count))?;
        let waited = |(id, at): &(String, Instant)| Some((*came.get(id)? - *at).as_secs_f64());
        Ok(sent.iter().filter_map(waited).collect())
    }
}

/// Waits until `count` different actions with this prefix have outcomes. Returns the time of each first outcome.
async fn answers(
    received: &mut UnboundedReceiver<(String, Instant)>,
    prefix: &str,
    count: usize,
) -> anyhow::Result<HashMap<String, Instant>> {
    let mut came = HashMap::with_capacity(count);
    while came.len() < count {
        let next = tokio::time::timeout(OUTCOME_LIMIT, received.recv()).await;
        let next = next.with_context(|| format!("{} of {count} answered", came.len()))?;
        let (id, at) = next.context("the lane that reads outcomes has ended")?;
        if id.starts_with(prefix) {
            came.entry(id).or_insert(at);
        }
    }
    Ok(came)
}

/// Actions per second from the first publish to the last outcome, over all agents.
pub(super) async fn burst(
    clients: &mut [Client],
    way: Way,
    prefix: &str,
    count: usize,
) -> anyhow::Result<f64> {
    let each = count / clients.len().max(1);
    ensure!(each > 0, "give each agent at least one action");
    let started = Instant::now();
    let sum = each * clients.len();
    try_join_all(clients.iter_mut().map(|client| client.burst(way, prefix, each))).await?;
    Ok(sum as f64 / started.elapsed().as_secs_f64())
}

/// Sorted seconds from proposal to outcome at `rate` actions a second over all agents, for about `seconds`.
pub(super) async fn steady(
    clients: &mut [Client],
    way: Way,
    prefix: &str,
    rate: f64,
    seconds: f64,
) -> anyhow::Result<Vec<f64>> {
    let each = (rate * seconds / clients.len() as f64).ceil() as usize;
    let between = Duration::from_secs_f64(1.0 / rate);
    let (now, every) = (Instant::now(), between * clients.len() as u32);
    // Staggered, as independent agents do not propose at the same moment.
    let turns = clients.iter_mut().zip(0..);
    let times = turns.map(|(client, turn)| client.steady(way, prefix, each, now + between * turn, every));
    let times = try_join_all(times).await?;
    let mut times: Vec<f64> = times.into_iter().flatten().collect();
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// A reviewer's program that approves every request immediately, each with its own signature.
pub(super) struct Approves(pub(super) Signer);

#[async_trait]
impl Handler for Approves {
    async fn ready(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let decide = |delivery: &Delivery| {
            let request: CloudEvent<ApprovalRequest> = read(delivery)?;
            Ok(signed(&self.0, &[decision(&request.data, Decision::Approve, None)]))
        };
        batch.iter().map(decide).collect()
    }

    async fn quarantine(&mut self, _: &Delivery, code: Code, reason: &str) -> Result<(), Failure> {
        Err(Failure::Unavailable(format!("{code}: {reason}")))
    }
}

/// The reader of answers to decisions.
pub(super) struct Answered;

#[async_trait]
impl Handler for Answered {
    async fn ready(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        for delivery in batch {
            let answer: CloudEvent<ApprovalAnswer> = read(delivery)?;
            if let Some(code) = answer.data.code {
                eprintln!("a decision was refused: {code}");
            }
        }
        Ok(vec![])
    }

    async fn quarantine(&mut self, _: &Delivery, code: Code, reason: &str) -> Result<(), Failure> {
        Err(Failure::Unavailable(format!("{code}: {reason}")))
    }
}
