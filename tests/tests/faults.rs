//! Each process and each service is killed while 2,000 actions are under way. Nothing is lost, nothing happens
//! twice, and an action whose effect is unknown is in doubt.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use countersign_broker::{reader::Reader, stream::Feed, topology::audits_queue};
use countersign_core::{action::Outcome, message::AuditRequest};
use countersign_testkit::{
    clients::{Agent, ReviewerApp, proposal},
    services::Services,
    tools::{Effect, Slow},
    wait::eventually,
};
use countersign_tests::{
    Gate, LIMIT,
    evidence::{recorded, without_a_gap},
    willing,
};
use serde_json::{Value, json};

const ACTIONS: usize = 2_000;
/// Slow answers, so that a call is always under way when a process is killed.
const TOOL: Duration = Duration::from_millis(600);

/// Of ten actions, one may not be repeated, one waits for an approver, and eight may be repeated.
fn action(n: usize) -> Value {
    let id = format!("n-{n}");
    match n % 10 {
        0 => proposal("one", &id, "send_letter", json!({"n": n})),
        1 => proposal("one", &id, "move_money", json!({"amount": "500"})),
        _ => proposal("one", &id, "write_record", json!({"n": n})),
    }
}

/// Sends the actions and returns when some are done and most are not.
async fn under_way(gate: &Gate) -> anyhow::Result<ReviewerApp> {
    let reviewer = gate.approving("sam", "approvers").await?;
    let agent = gate.agent("one").await?;
    agent.send(&(0..ACTIONS).map(action).collect::<Vec<_>>()).await?;
    gate.reaches("SELECT count(*) FROM outcomes", 100).await?;
    // Including calls that may not be repeated.
    let letters = "SELECT count(*) FROM actions WHERE tool = 'send_letter' AND state = 'executing'";
    gate.reaches(letters, 10).await?;
    Ok(reviewer)
}

/// The first outcome of every action that the agent receives.
async fn first_outcomes(gate: &Gate) -> anyhow::Result<BTreeMap<String, Outcome>> {
    let mut agent = Agent::connect(gate.system.url("agent-one")?, "one").await?;
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < ACTIONS {
        let next = agent.outcome(LIMIT).await?;
        let data = next.with_context(|| format!("{} of {ACTIONS} answered", outcomes.len()))?;
        outcomes.entry(data.action.id).or_insert(data.outcome);
    }
    Ok(outcomes)
}

fn keys<'a>(effects: &'a [Effect], tool: &str) -> Vec<&'a str> {
    effects.iter().filter(|effect| effect.tool == tool).map(|effect| effect.key.as_str()).collect()
}

/// Waits until everything has ended and compares received outcomes, stored states and effects. Returns how many actions
/// are in doubt.
async fn settles(gate: &Gate) -> anyhow::Result<usize> {
    let _reviewer = gate.approving("sam", "approvers").await?;
    let outcomes = first_outcomes(gate).await?;
    let odd: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| !matches!(outcome, Outcome::Succeeded | Outcome::InDoubt))
        .collect();
    ensure!(odd.is_empty(), "{odd:?}");
    let in_doubt: BTreeSet<&str> = outcomes
        .iter()
        .filter(|(_, outcome)| **outcome == Outcome::InDoubt)
        .map(|(id, _)| id.as_str())
        .collect();
    let may_be =
        |id: &&str| id.strip_prefix("n-").and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| n % 10 == 0);
    ensure!(in_doubt.iter().all(may_be), "only letters can be in doubt: {in_doubt:?}");

    // One effect per key, and one request for the tool that does not deduplicate.
    let (effects, requests) = (gate.tools.effects(), gate.tools.requests());
    let letters = keys(&requests, "send_letter");
    ensure!(letters.len() == letters.iter().collect::<BTreeSet<_>>().len(), "a letter was sent twice");
    ensure!(letters.len() <= ACTIONS / 10 && letters.len() >= ACTIONS / 10 - in_doubt.len());
    ensure!(keys(&effects, "move_money").len() == ACTIONS / 10);
    ensure!(keys(&effects, "write_record").len() == ACTIONS / 10 * 8);

    // The stored states agree, and every executed action has its draw.
    let settled = "SELECT count(*) FROM actions WHERE state IN ('succeeded', 'in_doubt')";
    ensure!(gate.count(settled).await? == ACTIONS as i64);
    gate.reaches("SELECT count(*) FROM sampling", ACTIONS as i64).await?;
    let unapproved = "SELECT count(*) FROM actions a WHERE tool = 'move_money' AND NOT EXISTS
                      (SELECT FROM approvals WHERE action = a.id AND state = 'approved' AND decided_at <= a.started_at)";
    ensure!(gate.count(unapproved).await? == 0);
    Ok(in_doubt.len())
}

/// Fails if most actions had already ended, as the fault would have tested nothing.
async fn in_the_middle(gate: &Gate) -> anyhow::Result<()> {
    let done = gate.count("SELECT count(*) FROM outcomes").await?;
    ensure!(done < ACTIONS as i64 * 3 / 4, "{done} of {ACTIONS} were done before the fault");
    Ok(())
}

async fn survives_the_kill_of(role: &str) -> anyhow::Result<usize> {
    let mut gate = Gate::acting(Slow(willing, TOOL)).await?;
    let _reviewer = under_way(&gate).await?;
    gate.system.kill(role)?;
    in_the_middle(&gate).await?;
    gate.system.start(role, role)?;
    let in_doubt = settles(&gate).await?;
    gate.close().await?;
    Ok(in_doubt)
}

#[tokio::test]
async fn the_router_can_be_killed() -> anyhow::Result<()> {
    ensure!(survives_the_kill_of("router").await? == 0);
    Ok(())
}

#[tokio::test]
async fn the_executor_can_be_killed_and_cut_off_letters_are_in_doubt() -> anyhow::Result<()> {
    let in_doubt = survives_the_kill_of("executor").await?;
    ensure!(in_doubt > 0, "no letter was under way");
    Ok(())
}

/// Killed repeatedly at arbitrary points: each executed action has one draw, each selected one has one audit, and each
/// audit was requested.
#[tokio::test]
async fn the_sampler_can_be_killed_anywhere() -> anyhow::Result<()> {
    const KILLS: i64 = 8;
    let config = countersign_tests::folder("audit: {rate: 0.1,", "audit: {rate: 0.5,")?;
    let mut gate = Gate::configured_acting(config, Slow(willing, TOOL)).await?;
    let _reviewer = under_way(&gate).await?;
    for kill in 1..=KILLS {
        let drawn = ACTIONS as i64 * kill / (KILLS + 2);
        gate.reaches("SELECT count(*) FROM sampling", drawn).await?;
        gate.system.kill("sampler")?;
        gate.system.start("sampler", "sampler")?;
    }
    ensure!(settles(&gate).await? == 0);
    ensure!(gate.count("SELECT count(*) FROM sampling").await? == ACTIONS as i64);
    let drawn = gate.count("SELECT count(*) FROM sampling WHERE selected").await?;
    let audited = "SELECT count(*) FROM audits u JOIN sampling s ON s.action = u.action
                   WHERE u.state = 'open' AND s.selected";
    ensure!(gate.count(audited).await? == drawn && gate.count("SELECT count(*) FROM audits").await? == drawn);
    let evidence = "SELECT count(*) FROM evidence WHERE kind = 'action.sampled'";
    ensure!(gate.count(evidence).await? == ACTIONS as i64);
    let mut queue = Reader::open(gate.system.url("auditor-ada")?, "test", &audits_queue("auditors")).await?;
    let mut asked = BTreeSet::new();
    while asked.len() < drawn as usize {
        let next = queue.next::<AuditRequest>(LIMIT).await?;
        let next = next.with_context(|| format!("{} of {drawn} audits requested", asked.len()))?;
        asked.insert(next.data.audit.to_string());
    }
    eprintln!("{drawn} audits of {ACTIONS} actions, {KILLS} kills");
    gate.close().await
}

#[tokio::test]
async fn the_broker_can_be_killed() -> anyhow::Result<()> {
    let mut services = Services::private().await?;
    let gate = Gate::on(&services, Slow(willing, TOOL)).await?;
    let reviewer = under_way(&gate).await?;
    let broker = services.rabbitmq.as_mut().context("a private broker")?;
    broker.kill().await?;
    in_the_middle(&gate).await?;
    drop(reviewer);
    broker.restart().await?;
    ensure!(settles(&gate).await? == 0, "calls outlive the broker");
    recorded(&gate).await?;
    without_a_gap(&gate).await?;
    gate.close().await?;
    services.stop().await
}

/// A machine crash loses messages that the stream had confirmed and not flushed; the recorder refills them from the ledger.
#[tokio::test]
async fn a_truncated_stream_is_refilled_from_the_ledger() -> anyhow::Result<()> {
    let mut services = Services::private().await?;
    let mut gate = Gate::on(&services, willing).await?;
    let agent = gate.agent("one").await?;
    let event = |n: usize| proposal("one", &format!("n-{n}"), "write_record", json!({"n": n}));
    agent.send(&(0..ACTIONS).map(event).collect::<Vec<_>>()).await?;
    gate.reaches("SELECT count(*) FROM sampling", ACTIONS as i64).await?;
    recorded(&gate).await?;
    ensure!(without_a_gap(&gate).await? == 0);
    let size = gate.count("SELECT size FROM recorder").await?;
    gate.system.kill("recorder")?;
    let broker = services.rabbitmq.as_mut().context("a private broker")?;
    broker.kill().await?;
    let lost = broker.cut_streams(0.7)?;
    ensure!(lost > 100_000, "only {lost} bytes are lost");
    broker.restart().await?;
    // Streams become available later than the node.
    let cut = eventually("the stream is available", LIMIT, async || last(&gate).await.ok()).await?;
    ensure!(cut + 100 < size, "the stream still has {cut} of {size} entries");
    gate.system.start("recorder", "recorder")?;
    without_a_gap(&gate).await?;
    eprintln!("{lost} bytes lost, {cut} of {size} entries were left");
    gate.close().await?;
    services.stop().await
}

/// The last entry that the stream has.
async fn last(gate: &Gate) -> anyhow::Result<i64> {
    let url = gate.system.url("countersign-recorder")?;
    let last = Feed::connect(url, "test").await?.last().await?;
    Ok(last.map_or(-1, |(index, _)| index as i64))
}

#[tokio::test]
async fn the_database_can_be_killed() -> anyhow::Result<()> {
    let mut services = Services::private().await?;
    let gate = Gate::on(&services, Slow(willing, TOOL)).await?;
    let _reviewer = under_way(&gate).await?;
    in_the_middle(&gate).await?;
    let database = services.postgres.as_mut().context("a private database")?;
    database.kill().await?;
    database.restart().await?;
    settles(&gate).await?;
    gate.close().await?;
    services.stop().await
}

#[tokio::test]
async fn the_recorder_can_be_killed() -> anyhow::Result<()> {
    let mut gate = Gate::acting(Slow(willing, TOOL)).await?;
    let _reviewer = under_way(&gate).await?;
    gate.system.kill("recorder")?;
    in_the_middle(&gate).await?;
    gate.system.start("recorder", "recorder")?;
    ensure!(settles(&gate).await? == 0);
    recorded(&gate).await?;
    without_a_gap(&gate).await?;
    gate.close().await
}
