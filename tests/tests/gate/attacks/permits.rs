//! Forged, foreign, expired, redirected and truncated permits, some of them signed with the router's own key.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use countersign_broker::topology::{EXECUTION, actions_exchange};
use countersign_core::{
    action::Outcome,
    ids::{ActionId, PermitId},
    message::{CloudEvent, kind},
    permit::{Permit, PermitPack},
};
use countersign_runtime::keys;
use countersign_testkit::clients::Agent;
use countersign_tests::{Gate, expect};
use lapin::{BasicProperties, Channel, types::FieldTable};
use serde_json::{json, value::to_raw_value};
use uuid::Uuid;

use super::{connect, publish, until};

/// A gate whose router and executor are stopped, with an action in each state, and an attacker who has the router's key
/// and may write to the execution exchange.
struct Thief {
    gate: Gate,
    agent: Agent,
    channel: Channel,
    _connection: lapin::Connection,
}

impl Thief {
    async fn start() -> anyhow::Result<Self> {
        let mut gate = Gate::start().await?;
        let mut agent = gate.agent("one").await?;
        agent.propose("no", "forbidden", json!({})).await?;
        expect(&mut agent, "no", Outcome::Denied).await?;
        agent.propose("waits", "move_money", json!({"amount": "500"})).await?;
        gate.reaches("SELECT count(*) FROM actions WHERE state = 'pending_approval'", 1).await?;
        gate.system.kill("executor")?;
        for id in ["a-1", "a-2"] {
            agent.propose(id, "write_record", json!({"n": 1})).await?;
        }
        gate.reaches("SELECT count(*) FROM actions WHERE state = 'authorised'", 2).await?;
        gate.system.kill("router")?;
        let connection = connect(&gate.system.place.amqp_url).await?;
        let channel = connection.create_channel().await?;
        // Once the broker has noticed, nothing more comes from the router. Permits that it has sent are purged.
        until("the router is gone", async || {
            (consumers(&channel, &actions_exchange("one")).await.ok()? == 0).then_some(())
        })
        .await?;
        until("no permit is queued", async || {
            let purged = channel.queue_purge(EXECUTION.into(), Default::default()).await.ok()?;
            (purged == 0).then_some(())
        })
        .await?;
        Ok(Self { gate, agent, channel, _connection: connection })
    }

    async fn action(&self, id: &str) -> anyhow::Result<ActionId> {
        let tx = self.gate.system.store()?.transaction().await?;
        let row = tx.query_one("SELECT id FROM actions WHERE event_id = $1", &[&id]).await?;
        Ok(ActionId(row.get(0)))
    }

    /// The current permit of an action.
    async fn permit(&self, id: &str) -> anyhow::Result<Permit> {
        let tx = self.gate.system.store()?.transaction().await?;
        let sql = "SELECT bytes FROM permits p JOIN actions a ON a.permit = p.id WHERE a.event_id = $1";
        let bytes: Vec<u8> = tx.query_one(sql, &[&id]).await?.get(0);
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// The router's own key.
    fn key_file(&self) -> PathBuf {
        self.gate.system.place.scratch.join("keys").join(keys::file::PERMIT_KEY)
    }

    /// A pack with only this permit, signed with the router's key.
    fn sign(&self, permit: &Permit) -> anyhow::Result<Vec<u8>> {
        let pack = PermitPack::sign(vec![to_raw_value(permit)?], &keys::signing_key(&self.key_file())?);
        let event =
            CloudEvent::new(Uuid::now_v7(), "/countersign/router", kind::PERMIT_PACK, Utc::now(), pack);
        Ok(serde_json::to_vec(&event)?)
    }

    async fn inject(&self, body: &[u8]) -> anyhow::Result<()> {
        publish(&self.channel, (EXECUTION, "permits"), BasicProperties::default(), body).await
    }

    /// Injects a pack and waits until it is refused with `code`, having executed nothing.
    async fn refused(&self, code: &str, body: &[u8]) -> anyhow::Result<()> {
        let noted = format!(
            "SELECT count(*) FROM evidence WHERE kind = 'permit.refused' AND body->>'code' = '{code}'"
        );
        let before = self.gate.count(&noted).await?;
        self.inject(body).await?;
        self.gate.reaches(&noted, before + 1).await.with_context(|| code.to_owned())?;
        ensure!(self.gate.tools.calls() == 0, "{code}: the tool was called");
        Ok(())
    }
}

async fn consumers(channel: &Channel, queue: &str) -> anyhow::Result<u32> {
    let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
    Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await?.consumer_count())
}

#[tokio::test]
async fn a_stolen_router_key_executes_nothing_that_the_database_has_not_authorised() -> anyhow::Result<()> {
    let mut thief = Thief::start().await?;
    let (one, two) = (thief.permit("a-1").await?, thief.permit("a-2").await?);
    let (waits, no) = (thief.action("waits").await?, thief.action("no").await?);
    thief.gate.system.start("executor", "executor")?;

    let past = DateTime::<Utc>::UNIX_EPOCH;
    let target = |endpoint: &str| {
        let mut target = one.target.clone();
        target.endpoint = endpoint.into();
        target
    };
    let other_tool = || {
        let mut target = one.target.clone();
        target.tool = "move_money".into();
        target
    };
    let fresh = || PermitId(Uuid::now_v7());
    for (code, permit) in [
        // A pending action, with another's permit, a new one, and the nil one.
        ("superseded", Permit { action: waits, ..one.clone() }),
        ("superseded", Permit { action: waits, permit: fresh(), ..one.clone() }),
        ("superseded", Permit { action: waits, permit: PermitId(Uuid::nil()), ..one.clone() }),
        ("not_authorised", Permit { action: no, permit: fresh(), ..one.clone() }),
        ("action_unknown", Permit { action: ActionId(Uuid::now_v7()), ..one.clone() }),
        // One action's permit for another, both authorised.
        ("superseded", Permit { action: two.action, ..one.clone() }),
        ("superseded", Permit { permit: fresh(), ..one.clone() }),
        ("permit_expired", Permit { expires_at: past, ..one.clone() }),
        ("permit_expired", Permit { expires_at: Utc::now() - TimeDelta::seconds(1), ..one.clone() }),
        // Evaluated under another generation, or with a target that differs from the registry.
        ("generation_changed", Permit { generation: one.generation - 1, ..one.clone() }),
        ("generation_changed", Permit { generation: one.generation + 1, ..one.clone() }),
        ("generation_changed", Permit { target: target("POST http://127.0.0.1:1/"), ..one.clone() }),
        ("generation_changed", Permit { target: target("amqp:countersign.execution/x"), ..one.clone() }),
        ("generation_changed", Permit { target: other_tool(), ..one.clone() }),
    ] {
        let pack = thief.sign(&permit)?;
        thief.refused(code, &pack).await?;
    }
    let authorised = "SELECT count(*) FROM actions WHERE state = 'authorised'";
    ensure!(thief.gate.count(authorised).await? == 2);

    // The right permit with another digest: claimed, compared, and failed without a call.
    let other = Permit { digest: format!("sha256:{}", "0".repeat(64)), ..two.clone() };
    thief.inject(&thief.sign(&other)?).await?;
    let outcome = expect(&mut thief.agent, "a-2", Outcome::Failed).await?;
    ensure!(outcome.error.is_some_and(|error| error.code == "digest_mismatch"));
    ensure!(thief.gate.tools.calls() == 0);
    // Too late for the right one: an action is claimed once.
    thief.refused("already_used", &thief.sign(&two)?).await?;

    // The refused permits had no effect: the router restarts, and its own permit is executed once.
    thief.gate.system.start("router", "router")?;
    expect(&mut thief.agent, "a-1", Outcome::Succeeded).await?;
    ensure!(thief.gate.tools.calls() == 1);
    ensure!(thief.gate.count("SELECT count(*) FROM actions WHERE state = 'pending_approval'").await? == 1);
    thief.gate.close().await
}

#[tokio::test]
async fn a_truncated_altered_or_foreign_pack_executes_nothing() -> anyhow::Result<()> {
    let mut thief = Thief::start().await?;
    let one = thief.permit("a-1").await?;
    thief.gate.system.start("executor", "executor")?;
    let pack = thief.sign(&one)?;
    for at in [0, 1, pack.len() / 3, pack.len() / 2, pack.len() - 1] {
        thief.refused("permit_malformed", &pack[..at]).await?;
    }
    thief.refused("permit_malformed", &[pack.as_slice(), &pack].concat()).await?;
    thief.refused("permit_malformed", "[".repeat(100_000).as_bytes()).await?;
    let text = String::from_utf8(pack)?;
    for (from, to) in [
        ("write_record", "move_money"),
        ("\"generation\":", "\"generation\":1"),
        ("/agents/one", "/agents/two"),
        ("\"permits\":[", "\"permits\":[{},"),
    ] {
        ensure!(text.contains(from), "{from}");
        thief.refused("permit_forged", text.replacen(from, to, 1).as_bytes()).await?;
    }
    let reviewers = keys::signing_key(&thief.gate.system.key_file("sam"))?;
    let own = PermitPack::sign(vec![to_raw_value(&one)?], &reviewers);
    let router = PermitPack::sign(vec![], &keys::signing_key(&thief.key_file())?);
    for pack in [
        own.clone(),
        // The router's key id with another key's signature, and the signature of an empty pack.
        PermitPack { key: router.key.clone(), ..own.clone() },
        PermitPack { permits: own.permits.clone(), ..router.clone() },
        router,
    ] {
        let event =
            CloudEvent::new(Uuid::now_v7(), "/countersign/router", kind::PERMIT_PACK, Utc::now(), pack);
        thief.refused("permit_forged", &serde_json::to_vec(&event)?).await?;
    }
    ensure!(thief.gate.count("SELECT count(*) FROM actions WHERE state = 'authorised'").await? == 2);
    thief.gate.system.start("router", "router")?;
    countersign_tests::all_succeed(&mut thief.agent, 2).await?;
    ensure!(thief.gate.tools.effects().len() == 2);
    thief.gate.close().await
}
