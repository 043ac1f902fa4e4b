//! Approval requests, and which decisions count.

use std::collections::BTreeMap;

use anyhow::ensure;
use countersign_core::{action::Outcome, message::Decision};
use countersign_testkit::clients::{Agent, decision, proposal};
use countersign_tests::{Gate, answer, expect};
use serde_json::json;

#[tokio::test]
async fn an_approved_action_is_executed_and_a_rejected_one_is_not() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;

    agent.propose("big", "move_money", json!({"amount": "500"})).await?;
    let asked = requests.next().await?;
    ensure!(asked.action.id == "big" && asked.why.rule == "large" && asked.groups == ["approvers"]);
    ensure!(gate.tools.calls() == 0);
    sam.decides(&asked, Decision::Approve, None).await?;
    let outcome = expect(&mut agent, "big", Outcome::Succeeded).await?;
    ensure!(outcome.approvers == ["sam"] && outcome.timings.decided_at.is_some());

    agent.propose("bad", "move_money", json!({"amount": "501"})).await?;
    let asked = requests.next().await?;
    sam.decides(&asked, Decision::Reject, Some("not agreed")).await?;
    let outcome = expect(&mut agent, "bad", Outcome::Rejected).await?;
    ensure!(outcome.error.is_some_and(|error| error.message == "not agreed"));
    // A decision that comes after the end changes nothing.
    sam.decides(&asked, Decision::Approve, None).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'decision.refused'", 1).await?;
    ensure!(gate.refusals("decision.refused", "not_open").await? == 1);
    ensure!(gate.tools.calls() == 1);
    gate.close().await
}

#[tokio::test]
async fn decisions_without_authority_are_refused_noted_and_execute_nothing() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    agent.propose("big", "move_money", json!({"amount": "500"})).await?;
    let asked = requests.next().await?;
    let mut other_digest = asked.clone();
    other_digest.digest = format!("sha256:{}", "0".repeat(64));
    gate.reviewer("otto").await?.decides(&asked, Decision::Approve, None).await?;
    gate.reviewer("mara").await?.decides(&asked, Decision::Approve, None).await?;
    gate.reviewer("sam").await?.decides(&other_digest, Decision::Approve, None).await?;
    gate.reviewer("sam").await?.decides(&asked, Decision::Reject, None).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'decision.refused'", 4).await?;
    for code in ["not_in_group", "requester", "digest_mismatch", "reason_missing"] {
        ensure!(gate.refusals("decision.refused", code).await? == 1, "{code}");
    }
    ensure!(gate.tools.calls() == 0);
    ensure!(gate.count("SELECT count(*) FROM actions WHERE state = 'pending_approval'").await? == 1);
    // The request is still open for somebody with the authority.
    gate.reviewer("sam").await?.decides(&asked, Decision::Approve, None).await?;
    expect(&mut agent, "big", Outcome::Succeeded).await?;
    gate.close().await
}

#[tokio::test]
async fn an_expired_approval_never_executes_even_if_the_decision_is_on_its_way() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    agent.propose("soon", "soon", json!({})).await?;
    let asked = requests.next().await?;
    expect(&mut agent, "soon", Outcome::Expired).await?;
    sam.decides(&asked, Decision::Approve, None).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'decision.refused'", 1).await?;
    ensure!(gate.refusals("decision.refused", "not_open").await? == 1);
    ensure!(gate.tools.calls() == 0);
    gate.close().await
}

#[tokio::test]
async fn a_decision_that_waits_while_the_router_is_down_outlives_neither_its_deadline_nor_a_new_policy()
-> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let mut asked = Vec::new();
    for (id, tool) in [("big", "move_money"), ("soon", "soon")] {
        agent.propose(id, tool, json!({"amount": "500"})).await?;
        asked.push(decision(&requests.next().await?, Decision::Approve, None));
    }
    gate.system.kill("router")?;
    gate.reviewer("sam").await?.submit(&asked).await?;
    gate.apply(LARGE_ASKS, LARGE_IS_DENIED).await?;
    gate.reaches("SELECT count(*) FROM approvals WHERE expires_at < now()", 1).await?;
    gate.system.start("router", "router")?;
    let ended = BTreeMap::from([ended(&mut agent).await?, ended(&mut agent).await?]);
    ensure!(ended["big"] == Outcome::Denied && ended["soon"] == Outcome::Expired, "{ended:?}");
    // Whether the decision or the sweep came first, the deadline and the policy win.
    let refused = "SELECT count(*) FROM evidence WHERE kind = 'decision.refused' AND action IS NOT NULL
                   AND body->>'code' IN ('expired', 'denied_by_policy', 'not_open')";
    gate.reaches(refused, 2).await?;
    ensure!(gate.tools.calls() == 0);
    gate.close().await
}

async fn ended(agent: &mut Agent) -> anyhow::Result<(String, Outcome)> {
    let data = answer(agent).await?;
    Ok((data.action.id, data.outcome))
}

const LARGE_ASKS: &str = "    verdict: require_approval
    group: approvers
    expires_after: 10m
    audit: {rate: 0.1, group: auditors}
  - id: soon";

const LARGE_IS_DENIED: &str = "    verdict: deny
    reason: no more
    audit: {rate: 0.1, group: auditors}
  - id: soon";

#[tokio::test]
async fn a_stricter_policy_denies_pending_actions_without_a_decision() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    agent.propose("big", "move_money", json!({"amount": "500"})).await?;
    let asked = requests.next().await?;
    gate.apply(LARGE_ASKS, LARGE_IS_DENIED).await?;
    let outcome = expect(&mut agent, "big", Outcome::Denied).await?;
    ensure!(outcome.error.is_some_and(|error| error.code == "policy" && error.message == "no more"));
    gate.reviewer("sam").await?.decides(&asked, Decision::Approve, None).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE body->>'code' = 'not_open'", 1).await?;
    ensure!(gate.tools.calls() == 0);
    gate.close().await
}

#[tokio::test]
async fn a_proposal_after_a_response_is_linked_with_the_first_in_both_directions() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    agent.propose("much", "move_money", json!({"amount": "900"})).await?;
    sam.decides(&requests.next().await?, Decision::Respond, Some("ask for half of it")).await?;
    expect(&mut agent, "much", Outcome::Rejected).await?;
    let mut again = proposal("one", "half", "move_money", json!({"amount": "450"}));
    again["data"]["supersedes"] = json!({"id": "much"});
    agent.send(&[again]).await?;
    let asked = requests.next().await?;
    ensure!(asked.action.supersedes == Some(json!({"id": "much"})), "{:?}", asked.action);
    for (id, kind) in [("much", "action.superseded"), ("half", "action.supersedes")] {
        let noted = format!(
            "SELECT count(*) FROM evidence e JOIN actions a ON a.id = e.action
             WHERE a.event_id = '{id}' AND e.kind = '{kind}'"
        );
        ensure!(gate.count(&noted).await? == 1, "{kind}");
    }
    // A proposal cannot supersede another agent's action.
    let mut forged = proposal("one", "other", "move_money", json!({"amount": "450"}));
    forged["data"]["supersedes"] = json!({"source": "/agents/two", "id": "much"});
    agent.send(&[forged]).await?;
    let outcome = expect(&mut agent, "other", Outcome::Denied).await?;
    ensure!(outcome.error.is_some_and(|error| error.code == "invalid_proposal"));
    gate.close().await
}

#[tokio::test]
async fn a_rule_that_cannot_be_evaluated_asks_a_human_instead_of_falling_through() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    agent.propose("odd", "move_money", json!({"amount": true})).await?;
    let asked = requests.next().await?;
    ensure!(asked.action.id == "odd" && asked.why.rule == "on-error", "{:?}", asked.why);
    ensure!(gate.tools.calls() == 0);
    let sam = gate.reviewer("sam").await?;
    sam.decides(&asked, Decision::Reject, Some("no amount")).await?;
    expect(&mut agent, "odd", Outcome::Rejected).await?;
    gate.close().await
}
