//! Cumulative limits: splitting a large action into small ones gains nothing.

use std::collections::BTreeMap;

use anyhow::ensure;
use countersign_core::{
    action::Outcome,
    message::{Decision, DecisionData},
};
use countersign_testkit::clients::{decision, proposal};
use countersign_tests::{Gate, answer, expect};
use serde_json::{Value, json};

fn spend(agent: &str, id: &str, amount: &str, whom: &str) -> Value {
    let mut event = proposal(agent, id, "spend", json!({"amount": amount}));
    event["data"]["agent"]["on_behalf_of"] = whom.into();
    event
}

#[tokio::test]
async fn of_two_hundred_concurrent_actions_exactly_as_many_run_as_fit_the_limit() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    gate.system.start("router", "router-2")?;
    let mut agents = [gate.agent("one").await?, gate.agent("two").await?];
    for agent in &agents {
        // Each is sent twice; a repetition adds nothing.
        let events = (0..100).map(|n| spend(&agent.id, &format!("s-{n}"), "100", "customer:mia"));
        let events: Vec<Value> = events.flat_map(|event| [event.clone(), event]).collect();
        agent.send(&events).await?;
    }
    let mut outcomes = BTreeMap::new();
    for agent in &mut agents {
        while outcomes.iter().filter(|((id, _), _)| *id == agent.id).count() < 100 {
            let outcome = answer(agent).await?;
            outcomes.insert((agent.id.clone(), outcome.action.id), outcome.outcome);
        }
    }
    let succeeded = outcomes.values().filter(|outcome| **outcome == Outcome::Succeeded).count();
    let denied = outcomes.values().filter(|outcome| **outcome == Outcome::Denied).count();
    ensure!((succeeded, denied) == (50, 150), "{succeeded} succeeded, {denied} denied");
    ensure!(gate.tools.effects().len() == 50);
    gate.close().await
}

#[tokio::test]
async fn sums_are_exact_and_kept_per_customer() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    for (id, amount, whom, outcome) in [
        ("all", "4999.99", "customer:mia", Outcome::Succeeded),
        ("more", "0.02", "customer:mia", Outcome::Denied),
        ("rest", "0.01", "customer:mia", Outcome::Succeeded),
        ("other", "5000.00", "customer:kim", Outcome::Succeeded),
    ] {
        agent.send(&[spend("one", id, amount, whom)]).await?;
        let answer = expect(&mut agent, id, outcome).await?;
        let explained = answer.error.is_some_and(|error| error.message.contains("at most 5000"));
        ensure!(explained == (outcome == Outcome::Denied), "{id}");
    }
    gate.close().await
}

#[tokio::test]
async fn a_pending_action_counts_towards_the_limit_and_a_rejected_one_does_not() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    for id in ["f-1", "f-2"] {
        agent.propose(id, "few", json!({})).await?;
        expect(&mut agent, id, Outcome::Succeeded).await?;
    }
    agent.propose("f-3", "few", json!({})).await?;
    let asked = requests.next().await?;
    ensure!(asked.why.text.contains("exceeds the limit"), "{}", asked.why.text);
    let counted = "SELECT sum(amount)::bigint FROM limit_uses u JOIN actions a ON a.id = u.action
                   WHERE a.state NOT IN ('denied', 'rejected', 'failed', 'expired', 'cancelled')";
    ensure!(gate.count(counted).await? == 3, "a pending action does not count");
    // The rule permits only approve and reject.
    let arguments = Some(json!({"other": true}));
    sam.submit(&[DecisionData { arguments, ..decision(&asked, Decision::Edit, None) }]).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE body->>'code' = 'not_allowed'", 1).await?;
    ensure!(gate.tools.calls() == 2);
    sam.decides(&asked, Decision::Reject, Some("enough")).await?;
    expect(&mut agent, "f-3", Outcome::Rejected).await?;
    ensure!(gate.count(counted).await? == 2, "a rejected action counts");
    gate.close().await
}
