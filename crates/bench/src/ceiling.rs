//! The limit that the system is measured against: bare lanes over the same hops, which decode the message, insert one row per
//! action and stage, publish to the next queue with confirms, ack, and do nothing else.
//!
//! One action per message where the contract requires it; 64 in one between stages that are Countersign's own processes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use countersign_broker::{
    declare::declare,
    lane::{self, Delivery, Failure, Handler, LaneSettings},
    publisher::Outgoing,
    session::Session,
    topology::{Exchange, Queue, Topology},
};
use countersign_core::{permit::PACK_MAX, refusal::Code};
use countersign_store::{Pipeline, Store, StoreError};
use countersign_testkit::isolation::TestEnv;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json, value::RawValue};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::load::AGENTS;

/// What a lane publishes for the actions of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// One message per action to this queue.
    Each(&'static str),
    /// One message per 64 actions to this queue.
    Packed(&'static str),
    /// An outcome per action to its agent, and one message per 64 actions to this queue.
    Answer(&'static str),
    Nothing,
}

/// A stage: its queue, whether actions arrive packed, and what it publishes.
struct Stage {
    queue: &'static str,
    packed: bool,
    stores: bool,
    /// Whether a tool is called over HTTP for each action.
    calls: bool,
    then: Then,
}

impl Stage {
    const fn new(queue: &'static str, packed: bool, then: Then) -> Self {
        Self { queue, packed, stores: true, calls: false, then }
    }
}

/// The stages of actions executed without approval, of those whose tool is called over HTTP, and of those approved first.
const STAGES: [Stage; 8] = [
    Stage::new(DIRECT, false, Then::Packed("bench.execution")),
    Stage::new("bench.execution", true, Then::Answer("bench.settled")),
    Stage::new("bench.settled", true, Then::Nothing),
    Stage::new(CALLED, false, Then::Packed("bench.calls")),
    Stage { calls: true, ..Stage::new("bench.calls", true, Then::Answer("bench.settled")) },
    Stage::new(GATED, false, Then::Each("bench.approvals")),
    // The reviewer, who stores nothing.
    Stage { stores: false, ..Stage::new("bench.approvals", false, Then::Each("bench.decisions")) },
    Stage::new("bench.decisions", false, Then::Packed("bench.execution")),
];

/// The queue for actions executed without approval.
pub(super) const DIRECT: &str = "bench.direct";
/// The queue for actions whose tool is called over HTTP.
pub(super) const CALLED: &str = "bench.called";
/// The queue for actions approved first.
pub(super) const GATED: &str = "bench.gated";

/// The queue with an agent's outcomes.
pub(super) fn outcomes(agent: &str) -> String {
    format!("bench.outcomes.{agent}")
}

/// The exchange of all queues.
pub(super) const EXCHANGE: &str = "bench";

/// A quorum queue for each stage and for each agent's outcomes.
fn topology() -> Topology {
    let queues = STAGES.iter().map(|stage| stage.queue.to_owned()).chain(AGENTS.map(outcomes));
    let arguments = Map::from_iter([("x-queue-type".to_owned(), json!("quorum"))]);
    let queue =
        |name: String| Queue { binding: (EXCHANGE.into(), name.clone()), arguments: arguments.clone(), name };
    Topology {
        exchanges: vec![Exchange { name: EXCHANGE.into(), kind: "direct", arguments: Map::new() }],
        queues: queues.map(queue).collect(),
    }
}

/// The running lanes; dropping ends them.
pub(super) struct Ceiling {
    /// The broker with its own virtual host.
    pub(super) env: TestEnv,
    store: Store,
    http: reqwest::Client,
    /// The tool that is called over HTTP.
    tool: Arc<str>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// Most connections to the database: more than lanes that store.
const CONNECTIONS: usize = 48;

/// Most messages in one transaction, as in the system.
const BATCH_MAX: u16 = 256;

impl Ceiling {
    /// Starts `lanes` lanes on each stage, which call the tool at `tool`.
    pub(super) async fn start(env: TestEnv, lanes: u16, tool: &str) -> anyhow::Result<Self> {
        let session = Session::open(&env.amqp_url, "bench").await?;
        declare(&session.channel, &topology()).await?;
        let store = Store::new(&env.database_url, "bench", CONNECTIONS)?;
        {
            let tx = store.transaction().await?;
            let table = "CREATE TABLE bare (id uuid, stage text, body bytea, PRIMARY KEY (id, stage))";
            tx.execute(table, &[]).await?;
            tx.commit().await?;
        }
        let (http, tool) = (reqwest::Client::builder().no_proxy().build()?, tool.into());
        let mut ceiling =
            Self { env, store, http, tool, stop: CancellationToken::new(), tasks: JoinSet::new() };
        ceiling.run_with(lanes).await;
        Ok(ceiling)
    }

    /// Replaces the running lanes by `lanes` on each stage.
    pub(super) async fn run_with(&mut self, lanes: u16) {
        self.end().await;
        self.stop = CancellationToken::new();
        for stage in &STAGES {
            for index in 0..lanes {
                let settings = LaneSettings {
                    url: self.env.amqp_url.clone(),
                    input: stage.queue.into(),
                    queues: LaneSettings::one(stage.queue),
                    batch_max: BATCH_MAX,
                    linger: Duration::ZERO,
                    handle_limit: Duration::from_secs(45),
                };
                let name: Arc<str> = format!("{}.{index}", stage.queue).into();
                let bare = Bare {
                    stage,
                    store: self.store.clone(),
                    http: self.http.clone(),
                    url: self.tool.clone(),
                };
                self.tasks.spawn(lane::run(name, settings, bare, self.stop.clone()));
            }
        }
    }

    async fn end(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Ends the lanes and removes their virtual host and database.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.end().await;
        self.env.close().await
    }
}

/// An action as lanes pass it on: its id, its agent, and a body as large as the system's rows.
#[derive(Clone, Deserialize, Serialize)]
struct Item {
    id: Uuid,
    action: String,
    agent: String,
    #[serde(skip)]
    body: Vec<u8>,
}

/// The members of a proposal that are read.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: &'a str,
    #[serde(borrow)]
    source: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Concurrent calls of a lane: an executor's limit, shared between its lanes.
const CALLS: usize = 256;

struct Bare {
    stage: &'static Stage,
    store: Store,
    http: reqwest::Client,
    url: Arc<str>,
}

impl Bare {
    fn read(&self, delivery: &Delivery) -> Result<Vec<Item>, serde_json::Error> {
        if self.stage.packed {
            return serde_json::from_slice(&delivery.body);
        }
        let event: Event<'_> = serde_json::from_slice(&delivery.body)?;
        let agent = event.source.rsplit('/').next().unwrap_or_default().to_owned();
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, event.id.as_bytes());
        Ok(vec![Item { id, action: event.id.into(), agent, body: event.data.get().as_bytes().to_vec() }])
    }

    async fn store(&self, items: &[Item]) -> Result<(), StoreError> {
        let tx = self.store.transaction().await?;
        let sql = "INSERT INTO bare SELECT id, $2, body FROM UNNEST($1::uuid[], $3::bytea[]) AS u (id, body)
                   ON CONFLICT DO NOTHING";
        let ids: Vec<Uuid> = items.iter().map(|item| item.id).collect();
        let filler = [b'x'; 400];
        let body = |item: &Item| if item.body.is_empty() { filler.to_vec() } else { item.body.clone() };
        let bodies: Vec<Vec<u8>> = items.iter().map(body).collect();
        let mut writes = Pipeline::default();
        writes.add(&tx, sql, vec![Box::new(ids), Box::new(self.stage.queue), Box::new(bodies)]).await?;
        tx.commit_with(&writes).await.map(drop)
    }

    async fn call(&self, items: &[Item]) -> Result<(), reqwest::Error> {
        let one = |item: &Item| {
            let body = json!({"n": 1, "filler": "x".repeat(300)}).to_string();
            let request = self.http.post(&*self.url).header("content-type", "application/json").body(body);
            let request = request.header("idempotency-key", item.id.to_string());
            async { request.send().await?.error_for_status()?.bytes().await }
        };
        let calls: Vec<_> = items.iter().map(one).collect();
        stream::iter(calls).buffer_unordered(CALLS).try_for_each(|_| async { Ok(()) }).await
    }

    fn follows(&self, items: &[Item]) -> Vec<Outgoing> {
        let message = |queue: String, id: String, body: Vec<u8>| Outgoing {
            exchange: EXCHANGE.into(),
            routing_key: queue,
            message_id: id,
            body,
        };
        let each = |queue: &dyn Fn(&Item) -> String| -> Vec<Outgoing> {
            let one = |item: &Item| {
                let event = json!({
                    "id": item.action, "source": format!("/agents/{}", item.agent), "type": "bench",
                    "data": {"action": {"id": item.action}, "filler": "x".repeat(300)},
                });
                message(queue(item), item.action.clone(), event.to_string().into_bytes())
            };
            items.iter().map(one).collect()
        };
        let packed = |queue: &'static str| {
            items.chunks(PACK_MAX).map(move |pack| {
                let body = serde_json::to_vec(pack).unwrap_or_default();
                message(queue.into(), Outgoing::fresh_id().to_string(), body)
            })
        };
        match self.stage.then {
            Then::Each(queue) => each(&|_| queue.into()),
            Then::Packed(queue) => packed(queue).collect(),
            Then::Answer(queue) => {
                let mut messages = each(&|item| outcomes(&item.agent));
                messages.extend(packed(queue));
                messages
            }
            Then::Nothing => vec![],
        }
    }
}

#[async_trait]
impl Handler for Bare {
    async fn ready(&mut self) -> Result<(), Failure> {
        self.store.ping().await.map_err(|error| Failure::Unavailable(error.to_string()))
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let read: Result<Vec<Vec<Item>>, _> = batch.iter().map(|delivery| self.read(delivery)).collect();
        let items: Vec<Item> =
            read.map_err(|error| Failure::Unavailable(error.to_string()))?.into_iter().flatten().collect();
        if self.stage.stores {
            self.store(&items).await.map_err(|error| Failure::Unavailable(error.to_string()))?;
        }
        if self.stage.calls {
            self.call(&items).await.map_err(|error| Failure::Unavailable(error.to_string()))?;
        }
        Ok(self.follows(&items))
    }

    async fn quarantine(&mut self, _: &Delivery, code: Code, reason: &str) -> Result<(), Failure> {
        Err(Failure::Unavailable(format!("{code}: {reason}")))
    }
}
