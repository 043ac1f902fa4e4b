//! Agents withdraw their actions.

use anyhow::ensure;
use countersign_core::action::Outcome;
use countersign_testkit::{
    clients::{proposal, withdrawal},
    tools::Slow,
    wait::eventually,
};
use countersign_tests::{Gate, LIMIT, expect, willing};
use serde_json::json;

#[tokio::test]
async fn an_action_withdrawn_before_it_arrives_or_while_it_waits_never_runs() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    agent.send(&[withdrawal("one", "early")]).await?;
    gate.reaches("SELECT count(*) FROM cancellations", 1).await?;
    agent.propose("early", "write_record", json!({"n": 1})).await?;
    expect(&mut agent, "early", Outcome::Cancelled).await?;

    agent.propose("waits", "move_money", json!({"amount": "500"})).await?;
    gate.reaches("SELECT count(*) FROM approvals WHERE state = 'open'", 1).await?;
    agent.send(&[withdrawal("one", "waits")]).await?;
    let outcome = expect(&mut agent, "waits", Outcome::Cancelled).await?;
    ensure!(outcome.error.is_some_and(|error| error.code == "cancelled"));
    // An approval now is too late.
    let app = gate.approving("sam", "approvers").await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'decision.refused'", 1).await?;
    ensure!(gate.count("SELECT count(*) FROM approvals WHERE state = 'open'").await? == 0);
    drop(app);
    // Both at once, in either order. Nobody approves meanwhile.
    let both = [withdrawal("one", "b"), proposal("one", "b", "move_money", json!({"amount": "500"}))];
    agent.send(&both).await?;
    expect(&mut agent, "b", Outcome::Cancelled).await?;
    ensure!(gate.tools.calls() == 0);
    gate.close().await
}

#[tokio::test]
async fn an_agent_can_withdraw_neither_a_claimed_action_nor_anothers() -> anyhow::Result<()> {
    let gate = Gate::acting(Slow(willing, std::time::Duration::from_millis(500))).await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE started_at IS NOT NULL", 1).await?;
    agent.send(&[withdrawal("one", "a-1")]).await?;
    gate.reaches(
        "SELECT count(*) FROM evidence WHERE kind = 'cancellation.refused' AND action IS NOT NULL",
        1,
    )
    .await?;
    ensure!(gate.refusals("cancellation.refused", "too_late").await? == 1);
    expect(&mut agent, "a-1", Outcome::Succeeded).await?;

    agent.propose("a-2", "move_money", json!({"amount": "500"})).await?;
    gate.reaches("SELECT count(*) FROM approvals WHERE state = 'open'", 1).await?;
    let mut other = gate.agent("two").await?;
    other.send(&[withdrawal("one", "a-2"), withdrawal("two", "a-2")]).await?;
    gate.reaches("SELECT count(*) FROM quarantine WHERE code = 'source_forged'", 1).await?;
    ensure!(gate.count("SELECT count(*) FROM approvals WHERE state = 'open'").await? == 1);
    ensure!(other.outcome(std::time::Duration::from_millis(1)).await?.is_none());
    gate.close().await
}

#[tokio::test]
async fn an_action_whose_execution_was_interrupted_cannot_be_withdrawn() -> anyhow::Result<()> {
    let mut gate = Gate::acting(Slow(willing, std::time::Duration::from_millis(500))).await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    eventually("the tool is called", LIMIT, async || (gate.tools.calls() == 1).then_some(())).await?;
    gate.system.kill("executor")?;
    let expired = "WITH expired AS (UPDATE actions SET lease_until = now() - interval '1 s'
                                    WHERE state = 'executing' RETURNING 1) SELECT count(*) FROM expired";
    ensure!(gate.count(expired).await? == 1, "its result was recorded before the executor was killed");
    agent.send(&[withdrawal("one", "a-1")]).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'cancellation.refused'", 1).await?;
    ensure!(gate.refusals("cancellation.refused", "too_late").await? == 1);
    // The tool is idempotent: whatever the first call did, the action ends as it was authorised.
    gate.system.start("executor", "executor")?;
    expect(&mut agent, "a-1", Outcome::Succeeded).await?;
    gate.close().await
}

#[tokio::test]
async fn an_agent_withdraws_only_so_much_in_advance() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let events: Vec<_> = (0..1_100).map(|n| withdrawal("one", &format!("never-{n}"))).collect();
    agent.send(&events).await?;
    let mut two = gate.agent("two").await?;
    let known = |id: &str| format!("SELECT count(*) FROM cancellations WHERE event_id = '{id}'");
    two.send(&[withdrawal("two", "other")]).await?;
    gate.reaches(&known("other"), 1).await?;
    two.propose("other", "write_record", json!({"n": 1})).await?;
    expect(&mut two, "other", Outcome::Cancelled).await?;
    agent.send(&[withdrawal("one", "last")]).await?;
    gate.reaches(&known("last"), 1).await?;
    agent.propose("last", "write_record", json!({"n": 1})).await?;
    expect(&mut agent, "last", Outcome::Cancelled).await?;
    let kept = gate.count("SELECT count(*) FROM cancellations WHERE source = '/agents/one'").await?;
    ensure!((1_000..=1_001).contains(&kept), "{kept} withdrawals are kept");
    gate.close().await
}
