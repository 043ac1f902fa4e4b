//! Cumulative limits: splitting one large action into many small ones gains nothing.

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
async fn of_two_hundred_at_once_exactly_as_many_run_as_fit_the_limit() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    gate.system.start("router", "router-2")?;
    let mut agents = [gate.agent("one").await?, gate.agent("two").await?];
    for agent in &agents {
        // Each is sent twice: what comes again adds nothing.
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
async fn sums_are_exact_and_everybody_has_one_of_their_own() -> anyhow::Result<()> {
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
        let told = answer.error.is_some_and(|error| error.message.contains("at most 5000"));
        ensure!(told == (outcome == Outcome::Denied), "{id}");
    }
    gate.close().await
}

#[tokio::test]
async fn what_waits_counts_and_what_is_rejected_gives_its_place_back() -> anyhow::Result<()> {
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
    ensure!(gate.count(counted).await? == 3, "what waits counts");
    // The rule knows approve and reject alone.
    let arguments = Some(json!({"other": true}));
    sam.says(&[DecisionData { arguments, ..decision(&asked, Decision::Edit, None) }]).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE body->>'code' = 'not_allowed'", 1).await?;
    ensure!(gate.tools.calls() == 2);
    sam.decides(&asked, Decision::Reject, Some("enough")).await?;
    expect(&mut agent, "f-3", Outcome::Rejected).await?;
    ensure!(gate.count(counted).await? == 2, "what is rejected does not");
    gate.close().await
}
