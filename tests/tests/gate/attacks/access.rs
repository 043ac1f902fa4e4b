//! Every user of the broker at every exchange and queue.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use countersign_app::users;
use countersign_broker::topology::{
    ANSWERS, APPROVALS, AUDIT_STREAM, AUDITS, COMMANDS, DECISIONS, EXECUTION, FEEDBACK, FINDINGS, Limits,
    OUTCOMES, SETTLED, Topology, actions_exchange,
};
use countersign_tests::Gate;
use futures_util::future::try_join_all;
use lapin::{BasicProperties, Channel, Connection, options::BasicGetOptions, types::FieldTable};

use super::{connect, publish};

/// Exchanges that every virtual host has.
const BUILT_IN: [&str; 7] =
    ["", "amq.direct", "amq.topic", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace"];

/// The exchanges that a user may publish to, by ARCHITECTURE.md and independent of `access.rs`.
fn may_write(user: &str) -> Vec<String> {
    let names: &[&str] = match user {
        "countersign-router" => &[OUTCOMES, APPROVALS, ANSWERS, FEEDBACK, EXECUTION, SETTLED, COMMANDS],
        // One of the suites' tools is a queue behind the default exchange.
        "countersign-executor" => &[OUTCOMES, SETTLED, COMMANDS, ""],
        "countersign-sampler" => &[OUTCOMES, SETTLED, AUDITS, FEEDBACK, COMMANDS],
        "countersign-recorder" => &[AUDIT_STREAM],
        _ => match user.split_once('-') {
            Some(("agent", id)) => return vec![format!("countersign.actions.{id}")],
            Some(("reviewer" | "app", _)) => &[DECISIONS],
            Some(("auditor", _)) => &[FINDINGS],
            _ => &[],
        },
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// One user's attempts, with counts of those refused and allowed.
struct Intruder {
    user: String,
    connection: Connection,
    refused: usize,
    allowed: usize,
}

impl Intruder {
    /// Makes an attempt on its own channel, as the broker closes the channel on a refusal.
    async fn tries(
        &mut self,
        what: &str,
        may: bool,
        attempt: impl AsyncFnOnce(Channel) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let channel = self.connection.create_channel().await?;
        let tried = attempt(channel.clone()).await;
        let refused = tried.as_ref().is_err_and(|error| format!("{error:#}").contains("ACCESS_REFUSED"));
        if !refused {
            tried.with_context(|| format!("{} tries to {what}", self.user))?;
            // Closing the channel requeues what it has consumed.
            channel.close(200, "".into()).await?;
        }
        ensure!(refused != may, "{} tries to {what}: refused {refused}", self.user);
        *(if refused { &mut self.refused } else { &mut self.allowed }) += 1;
        Ok(())
    }

    async fn publishes(&mut self, exchange: &str, key: &str, may: bool) -> anyhow::Result<()> {
        let properties = BasicProperties::default().with_user_id(self.user.as_str().into());
        let what = format!("publish to {exchange:?} with the key {key:?}");
        self.tries(&what, may, async |channel| publish(&channel, (exchange, key), properties, b"{}").await)
            .await
    }

    /// Attempts to change exchanges, queues and bindings.
    async fn configures(&mut self, queue: &str, exchange: &str) -> anyhow::Result<()> {
        let none = FieldTable::default;
        self.tries(&format!("delete {queue}"), false, async |channel| {
            Ok(channel.queue_delete(queue.into(), Default::default()).await.map(drop)?)
        })
        .await?;
        self.tries(&format!("delete the exchange {exchange}"), false, async |channel| {
            Ok(channel.exchange_delete(exchange.into(), Default::default()).await?)
        })
        .await?;
        self.tries("declare a queue", false, async |channel| {
            Ok(channel.queue_declare("mine".into(), Default::default(), none()).await.map(drop)?)
        })
        .await?;
        self.tries("declare an exchange", false, async |channel| {
            let kind = lapin::ExchangeKind::Fanout;
            Ok(channel.exchange_declare("mine".into(), kind, Default::default(), none()).await?)
        })
        .await?;
        self.tries(&format!("route {exchange} to an agent's actions"), false, async |channel| {
            let (to, from) = (actions_exchange("one").into(), exchange.into());
            Ok(channel.exchange_bind(to, from, "#".into(), Default::default(), none()).await?)
        })
        .await
    }

    /// Attempts to route permits to the user's queue.
    async fn binds(&mut self, queue: &str) -> anyhow::Result<()> {
        self.tries(&format!("bind {queue} to permits"), false, async |channel| {
            let options = Default::default();
            let none = FieldTable::default();
            Ok(channel.queue_bind(queue.into(), EXECUTION.into(), "#".into(), options, none).await?)
        })
        .await
    }

    async fn reads(&mut self, queue: &str, may: bool) -> anyhow::Result<()> {
        // A stream cannot be read with basic.get; another test covers it.
        if may && queue == AUDIT_STREAM {
            return Ok(());
        }
        self.tries(&format!("read {queue}"), may, async |channel| {
            Ok(channel.basic_get(queue.into(), BasicGetOptions::default()).await.map(drop)?)
        })
        .await?;
        if may {
            return Ok(());
        }
        self.tries(&format!("purge {queue}"), false, async |channel| {
            Ok(channel.queue_purge(queue.into(), Default::default()).await.map(drop)?)
        })
        .await
    }
}

#[tokio::test]
async fn users_can_access_only_their_own_exchanges_and_queues() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let configuration = &gate.system.folder.configuration;
    let topology = Topology::of(&configuration.directory, &Limits::default());
    let queues: Vec<&str> = topology.queues.iter().map(|queue| queue.name.as_str()).collect();
    let exchanges = topology.exchanges.iter().map(|one| one.name.as_str()).chain(BUILT_IN);
    let exchanges: Vec<&str> = exchanges.collect();
    let everyone = users::everyone(configuration);
    let kinds: BTreeSet<&str> =
        everyone.iter().filter_map(|access| access.user.split_once('-')).map(|(kind, _)| kind).collect();
    ensure!(kinds.into_iter().eq(["agent", "app", "auditor", "compliance", "countersign", "reviewer"]));

    let all = everyone.iter().map(async |access| -> anyhow::Result<(usize, usize)> {
        let user = access.user.clone();
        let connection = connect(gate.system.url(&user)?).await?;
        let mut intruder = Intruder { user, connection, refused: 0, allowed: 0 };
        let own = may_write(&access.user);
        let role = access.user.starts_with("countersign-");
        for exchange in &exchanges {
            // The gate's own processes do not publish here, as their messages would be processed.
            let may = own.iter().any(|name| name == exchange);
            if !(role && may) {
                intruder.publishes(exchange, "x", may).await?;
            }
        }
        for queue in &queues {
            if !own.iter().any(String::is_empty) {
                intruder.publishes("", queue, false).await?;
            }
            intruder.reads(queue, access.reads(queue)).await?;
        }
        for queue in access.read.iter().map(String::as_str).chain(["countersign.actions.one", EXECUTION]) {
            intruder.configures(queue, EXECUTION).await?;
            // Only the router may read and write it.
            if access.user != "countersign-router" && access.user != "countersign-executor" {
                intruder.binds(queue).await?;
            }
        }
        Ok((intruder.refused, intruder.allowed))
    });
    let counts = try_join_all(all).await?;
    let (refused, allowed) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    ensure!(refused > 2_000 && allowed > everyone.len(), "{refused} refused, {allowed} allowed");

    // Everyone who may publish has published one malformed message.
    let people = everyone.iter().filter(|access| !access.user.starts_with("countersign-"));
    let count = people.filter(|access| !may_write(&access.user).is_empty()).count();
    gate.reaches("SELECT count(*) FROM quarantine", count as i64).await?;
    ensure!(gate.count("SELECT count(*) FROM actions").await? == 0 && gate.tools.calls() == 0);
    gate.close().await
}
