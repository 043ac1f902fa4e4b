//! Hostile clients: an agent, a reviewer, an auditor and a tool with users of their own, who send garbage beside the honest
//! clients: bytes that no library sends, JSON that no agent writes, and messages about what is not theirs.

use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use countersign_broker::topology::{DECISIONS, FINDINGS, actions_exchange};
use countersign_core::{
    ids::{ApprovalId, AuditId},
    message::{Decision, DecisionData, Finding, FindingData},
    signed::Signer,
};
use countersign_store::Store;
use countersign_testkit::{
    clients::{found, proposal, signed, withdrawal},
    raw_amqp::{Name, RawProperties, RawPublisher, nested_arrays, short},
    system::System,
};
use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    clients::{Tasks, dice},
    history::{Event, History},
};

/// The hostile agent.
pub(crate) const AGENT: &str = "eve";

/// The users of the hostile agent, reviewer and auditor.
pub(crate) const USERS: [&str; 3] = ["agent-eve", "reviewer-otto", "auditor-dirk"];

/// The queue of the hostile tool, which only the hostile agent calls.
const TOOL_QUEUE: &str = "test.tools";

/// The SQLSTATEs with which the database refuses an action of the hostile agent that asks for it.
const SQLSTATES: [&str; 3] = ["22003", "54000", "P0001"];

/// How the ids of such actions begin.
const POISON: &str = "eve/poison/";

/// How long a client waits before it connects again.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// Whether an action is the hostile agent's.
pub(crate) fn is_hostile(action: &str) -> bool {
    action.starts_with(AGENT)
}

/// Lets the database refuse an action whose id asks for it: no other message is known that it refuses.
pub(crate) async fn poison(store: &Store) -> anyhow::Result<()> {
    let tx = store.transaction().await?;
    tx.batch_execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           RAISE EXCEPTION 'refused' USING ERRCODE = split_part(NEW.event_id, '/', 3);
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON actions FOR EACH ROW
         WHEN (NEW.event_id LIKE 'eve/poison/%') EXECUTE FUNCTION refuse();",
    )
    .await?;
    Ok(tx.commit().await?)
}

/// Starts all of them.
pub(crate) fn start(system: &System, history: &History, seed: u64, tasks: &mut Tasks) -> anyhow::Result<()> {
    let reviewer = system.signer("otto", "otto")?;
    let auditor = system.signer("dirk", "dirk")?;
    let bodies: [(String, Bodies); 3] = [
        (actions_exchange(AGENT), Box::new(|rng| body(rng).into_bytes())),
        (DECISIONS.into(), Box::new(move |rng| decision(&reviewer, rng))),
        (FINDINGS.into(), Box::new(move |rng| finding(&auditor, rng))),
    ];
    for ((exchange, bodies), user) in bodies.into_iter().zip(USERS) {
        let url = system.url(user)?.to_owned();
        let rng = StdRng::seed_from_u64(dice(seed, user));
        let history = history.clone();
        tasks.spawn(async move {
            let mut sender = Sender { history, url, user, exchange, bodies, rng };
            loop {
                // Connections are broken on purpose, by both sides.
                let _ = sender.send().await;
                sleep(RECONNECT_AFTER).await;
            }
        });
    }
    let url = system.place.amqp_url.clone();
    let mut rng = StdRng::seed_from_u64(dice(seed, TOOL_QUEUE));
    tasks.spawn(async move {
        loop {
            let _ = answer(&url, &mut rng).await;
            sleep(RECONNECT_AFTER).await;
        }
    });
    Ok(())
}

type Bodies = Box<dyn Fn(&mut StdRng) -> Vec<u8> + Send>;

/// The id of a message, if it can be read.
pub(crate) fn id(body: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(body).ok()?;
    Some(event.get("id")?.as_str()?.to_owned())
}

/// A client that may publish to one exchange.
struct Sender {
    history: History,
    url: String,
    user: &'static str,
    exchange: String,
    bodies: Bodies,
    rng: StdRng,
}

impl Sender {
    /// Sends until the broker closes the connection.
    async fn send(&mut self) -> anyhow::Result<()> {
        let mut raw = RawPublisher::connect(&self.url).await?;
        loop {
            for _ in 0..self.rng.random_range(1..=5) {
                let mut body = (self.bodies)(&mut self.rng);
                let garbled = self.rng.random_bool(0.5);
                if garbled {
                    garble(&mut self.rng, &mut body);
                }
                let key =
                    if self.rng.random_bool(0.1) { bytes(&mut self.rng, 200) } else { b"tool".to_vec() };
                let properties = properties(&mut self.rng).with(Name::UserId, self.user.as_bytes());
                anyhow::ensure!(raw.publish(&self.exchange, &key, &properties, &body).await?, "refused");
                let poison = if garbled { None } else { id(&body).filter(|id| id.starts_with(POISON)) };
                if let Some(id) = poison {
                    self.history.log(Event::Poisoned { id });
                }
            }
            sleep(Duration::from_millis(self.rng.random_range(50..400))).await;
        }
    }
}

fn bytes(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..=most)];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Properties and headers, mostly such as no library sends.
fn properties(rng: &mut StdRng) -> RawProperties {
    let plain = RawProperties::default();
    match rng.random_range(0..6) {
        0 => plain.with_headers(&nested_arrays(rng.random_range(1..20_000))),
        1 => plain.with_headers(&[short(&bytes(rng, 255)), b"t\x01".to_vec()].concat()),
        2 => {
            let names = [Name::ContentType, Name::CorrelationId, Name::ReplyTo, Name::MessageId, Name::Type];
            let name = *names.choose(rng).unwrap_or(&Name::AppId);
            plain.with(name, &bytes(rng, 255))
        }
        // A broker may close the connection for this one.
        3 if rng.random_bool(0.1) => plain.with_headers(&bytes(rng, 1_000)),
        _ => plain.with(Name::MessageId, b"a"),
    }
}

/// Damages a message, so that it may no longer be JSON or UTF-8.
fn garble(rng: &mut StdRng, body: &mut Vec<u8>) {
    match rng.random_range(0..6) {
        0 => body.truncate(rng.random_range(0..=body.len())),
        1 => *body = bytes(rng, 2_000),
        2 => {
            let levels = rng.random_range(1..50_000);
            *body = [b"[".repeat(levels), b"]".repeat(levels)].concat();
        }
        3 => body.extend(vec![b' '; rng.random_range(1..300_000)]),
        _ if body.is_empty() => {}
        _ => {
            for _ in 0..rng.random_range(1..4) {
                let index = rng.random_range(0..body.len());
                body[index] ^= 1 << rng.random_range(0..8);
            }
        }
    }
}

/// A proposal or a withdrawal that an agent should not send.
fn body(rng: &mut StdRng) -> String {
    let id = format!("{AGENT}/{:08x}", rng.next_u32());
    let mut event = proposal(AGENT, &id, "ask_queue", json!({"n": rng.next_u32()}));
    match rng.random_range(0..12) {
        0 => event["source"] = "/agents/one".into(),
        1 => event["data"]["agent"]["id"] = "one".into(),
        2 => event["id"] = "x".repeat(rng.random_range(0..10_000)).into(),
        3 => return withdrawal(AGENT, &"y".repeat(rng.random_range(0..10_000))).to_string(),
        4 => {
            let sqlstate = SQLSTATES.choose(rng).unwrap_or(&SQLSTATES[0]);
            event["id"] = format!("{POISON}{sqlstate}/{}", rng.next_u32()).into();
        }
        5 => event["data"]["agent"]["version"] = "\"".repeat(256).into(),
        6 => event["data"]["context"] = vec![json!({"uri": "\u{0}\u{FFFF}"}); 1_000].into(),
        7 => event["data"]["expires_at"] = "0000-01-01T00:00:00Z".into(),
        8 => event["time"] = "9999-12-31T23:59:60Z".into(),
        9 => event["data"]["supersedes"] = json!({"id": "one-00001"}),
        10 => event["data"]["agent"]["on_behalf_of"] = "customer:0".into(),
        _ => {}
    }
    event.to_string()
}

/// A well-signed decision on a request that does not exist, or a signature of nothing.
fn decision(signer: &Signer, rng: &mut StdRng) -> Vec<u8> {
    let data = DecisionData {
        approval: ApprovalId(uuid::Builder::from_u128(rng.random()).into_uuid()),
        digest: "sha256:".repeat(rng.random_range(0..100)),
        decision: Decision::Approve,
        reason_code: Some("z".repeat(rng.random_range(0..10_000))),
        reason: Some("\u{202E}".repeat(rng.random_range(0..3_000))),
        arguments: rng.random_bool(0.2).then(|| json!({"amount": "1e400"})),
    };
    let count = rng.random_range(1..120);
    unsigned(rng, signed(signer, &vec![data; count]).body)
}

/// The same for a finding.
fn finding(signer: &Signer, rng: &mut StdRng) -> Vec<u8> {
    let audit = AuditId(uuid::Builder::from_u128(rng.random()).into_uuid());
    let mut data = FindingData::new(audit, "sha256:0", Finding::Wrong);
    data.reason = Some("\u{0}".repeat(rng.random_range(0..3_000)));
    data.correction = Some(json!([[[{"tool": null}]]]));
    unsigned(rng, found(signer, &[data]).body)
}

/// Replaces the signature now and then.
fn unsigned(rng: &mut StdRng, body: Vec<u8>) -> Vec<u8> {
    if rng.random_bool(0.7) {
        return body;
    }
    let Ok(mut event) = serde_json::from_slice::<Value>(&body) else { return body };
    event["data"]["jws"] = String::from_utf8_lossy(&bytes(rng, 3_000)).into();
    event["time"] = json!(Utc::now());
    event.to_string().into_bytes()
}

/// The hostile tool: answers each call with garbage, and some of them as well as it can.
async fn answer(url: &str, rng: &mut StdRng) -> anyhow::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.queue_declare(TOOL_QUEUE.into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut calls =
        channel.basic_consume(TOOL_QUEUE.into(), "".into(), options, FieldTable::default()).await?;
    let mut raw = RawPublisher::connect(url).await?;
    loop {
        let call =
            timeout(Duration::from_secs(20), calls.next()).await?.context("the channel has ended")??;
        let (Some(reply_to), Some(correlation)) =
            (call.properties.reply_to().clone(), call.properties.correlation_id().clone())
        else {
            continue;
        };
        let mut properties = properties(rng);
        if rng.random_bool(0.8) {
            properties = properties.with(Name::CorrelationId, correlation.as_str().as_bytes());
        }
        let mut body = br#"{"status":"succeeded","result":{"done":true}}"#.to_vec();
        if rng.random_bool(0.5) {
            garble(rng, &mut body);
        }
        anyhow::ensure!(raw.publish("", reply_to.as_str().as_bytes(), &properties, &body).await?, "refused");
    }
}
