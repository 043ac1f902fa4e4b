//! A consumer that is away blocks nobody else and loses nothing.

use std::time::Duration;

use anyhow::ensure;
use countersign_core::action::Outcome;
use countersign_testkit::clients::{Agent, proposal};
use countersign_tests::{Gate, answer};
use serde_json::{Value, json};

#[tokio::test]
async fn an_agent_that_never_reads_and_a_reviewer_app_that_is_down_stop_nobody_and_lose_nothing()
-> anyhow::Result<()> {
    const ACTIONS: usize = 200;
    let gate = Gate::start().await?;
    // Agent two sends and never reads; its large transfers wait for a reviewer app that is down.
    let silent = Agent::connect(gate.system.url("agent-two")?, "two").await?;
    let of = |agent: &str, amount: &str| -> Vec<Value> {
        (0..ACTIONS)
            .map(|n| proposal(agent, &format!("{amount}-{n}"), "move_money", json!({"amount": amount})))
            .collect()
    };
    silent.send(&of("two", "5")).await?;
    silent.send(&of("two", "500")).await?;
    drop(silent);
    let mut agent = gate.agent("one").await?;
    agent.send(&of("one", "5")).await?;
    for _ in 0..ACTIONS {
        ensure!(answer(&mut agent).await?.outcome == Outcome::Succeeded);
    }
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'succeeded'", 2 * ACTIONS as i64).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'pending_approval'", ACTIONS as i64).await?;
    ensure!(gate.tools.effects().len() == 2 * ACTIONS);

    // The request queue is lost as well; a sweep publishes the requests again from the database.
    let session = countersign_broker::session::Session::open(&gate.system.place.amqp_url, "purge").await?;
    let queue = "countersign.approvals.approvers";
    session.channel.queue_purge(queue.into(), lapin::options::QueuePurgeOptions::default()).await?;
    let app = gate.approving("sam", "approvers").await?;
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'succeeded'", 3 * ACTIONS as i64).await?;
    ensure!(app.is_working() && gate.tools.effects().len() == 3 * ACTIONS);

    // The agent returns, proposes an old action again, and receives its outcome.
    let mut back = Agent::connect(gate.system.url("agent-two")?, "two").await?;
    let mut received = 0;
    while back.outcome(Duration::from_secs(5)).await?.is_some() {
        received += 1;
    }
    ensure!(received >= 2 * ACTIONS, "{received} outcomes were kept for the silent agent");
    gate.close().await
}
