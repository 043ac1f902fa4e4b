//! Each agent has a queue of its own, and none of them can keep another's from being read.

use anyhow::{Context as _, ensure};
use countersign_broker::topology::actions_exchange;
use countersign_core::action::Outcome;
use countersign_tests::{Gate, config, expect};
use lapin::BasicProperties;
use serde_json::json;

use super::{connect, publish};

const AGENTS: &str = "agents:\n";
const NEW: &str = "agents:\n  - {id: new, amqp_user: agent-new, owner: mara}\n";

/// How many messages of the new agent's queue were read: they are not the agent's, so they were quarantined.
const READ: &str = "SELECT count(*) FROM quarantine WHERE exchange = 'countersign.actions.new'";

#[tokio::test]
async fn a_queue_is_read_from_its_agents_first_generation_on_and_for_ever() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let connection = connect(&gate.system.place.amqp_url).await?;
    let channel = connection.create_channel().await?;
    let exchange = actions_exchange("new");
    let put = async || publish(&channel, (&exchange, "x"), BasicProperties::default(), b"{}").await;
    gate.apply(AGENTS, NEW).await?;
    put().await?;
    gate.reaches(READ, 1).await?;
    let (output, ok) = gate.cli(&["apply", &config().display().to_string(), "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    put().await?;
    gate.reaches(READ, 2).await?;
    // Also by a router that begins now.
    let mut gate = gate;
    gate.system.kill("router")?;
    put().await?;
    gate.system.start("router", "router")?;
    gate.reaches(READ, 3).await?;
    gate.close().await
}

#[tokio::test]
async fn a_queue_that_is_gone_keeps_no_other_from_being_read() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    let connection = connect(&gate.system.place.amqp_url).await?;
    let channel = connection.create_channel().await?;
    channel.queue_delete(actions_exchange("two").as_str().into(), Default::default()).await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    expect(&mut agent, "a-1", Outcome::Succeeded).await?;
    // Nor does it stop a router that begins.
    gate.system.kill("router")?;
    gate.system.start("router", "router-2")?;
    agent.propose("a-2", "write_record", json!({"n": 2})).await?;
    expect(&mut agent, "a-2", Outcome::Succeeded).await?;
    // Once it is declared again, it is read again.
    let (output, ok) = gate.cli(&["apply", &config().display().to_string(), "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    let mut other = gate.agent("two").await?;
    other.propose("b-1", "write_record", json!({"n": 3})).await.context("the queue is back")?;
    expect(&mut other, "b-1", Outcome::Succeeded).await?;
    gate.close().await
}
