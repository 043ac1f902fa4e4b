//! One agent cannot take the others' turn: what is over its quotas waits, stored, at its own cost.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use chrono::Utc;
use countersign_core::{action::Outcome, message::Decision, refusal::Code};
use countersign_testkit::clients::{proposal, withdrawal};
use countersign_tests::{Gate, all_succeed, answer, expect, with_quotas};
use serde_json::{Value, json};

/// A gate in which agent one has these quotas.
async fn gate(quotas: &str) -> anyhow::Result<Gate> {
    let config = with_quotas(quotas)?;
    Gate::configured(config.path()).await
}

const HELD: &str = "SELECT count(*) FROM actions WHERE state = 'held'";
const WAITING: &str = "SELECT count(*) FROM waiting WHERE admitted_at IS NULL";

/// Proposes records, which are held. Returns the proposals.
async fn held(gate: &Gate, ids: std::ops::Range<usize>) -> anyhow::Result<Vec<Value>> {
    let hold = ["hold", "--tool", "write_record", "--operator", "olga", "--reason", "a test"];
    let (output, ok) = gate.cli(&hold).await?;
    ensure!(ok, "{output}");
    let events: Vec<Value> =
        ids.map(|n| proposal("one", &format!("a-{n}"), "write_record", json!({"n": n}))).collect();
    gate.agent("one").await?.send(&events).await?;
    Ok(events)
}

async fn release(gate: &Gate) -> anyhow::Result<()> {
    let (output, ok) = gate.cli(&["hold", "release", "1", "--operator", "omar"]).await?;
    ensure!(ok, "{output}");
    Ok(())
}

#[tokio::test]
async fn what_is_over_a_quota_waits_while_others_go_on() -> anyhow::Result<()> {
    let gate = gate("in_flight: 3").await?;
    let events = held(&gate, 0..20).await?;
    gate.reaches(WAITING, 17).await?;
    ensure!(gate.count(HELD).await? == 3);
    let client = gate.system.store()?.client().await?;
    let id: String = client.query_one("SELECT event_id FROM waiting LIMIT 1", &[]).await?.get(0);
    let (shown, ok) = gate.cli(&["actions", "show", &id]).await?;
    ensure!(!ok && shown.contains("waited for its turn since"), "{shown}");
    let mut other = gate.agent("two").await?;
    other.propose("b-1", "send_letter", json!({})).await?;
    expect(&mut other, "b-1", Outcome::Succeeded).await?;
    // The same proposals again take up no more room, nor anything that was known before.
    gate.agent("one").await?.send(&events).await?;
    other.propose("b-2", "send_letter", json!({})).await?;
    expect(&mut other, "b-2", Outcome::Succeeded).await?;
    ensure!(gate.count(WAITING).await? == 17 && gate.count(HELD).await? == 3);
    release(&gate).await?;
    all_succeed(&mut gate.agent("one").await?, 20).await?;
    ensure!(gate.count("SELECT count(*) FROM actions WHERE agent = 'one'").await? == 20);
    ensure!(gate.tools.effects().len() == 22, "each was executed once");
    gate.close().await
}

#[tokio::test]
async fn what_waits_is_evaluated_under_the_policy_that_is_in_force_at_its_turn() -> anyhow::Result<()> {
    let gate = gate("in_flight: 1").await?;
    held(&gate, 0..2).await?;
    gate.reaches(WAITING, 1).await?;
    let stricter = with_quotas("in_flight: 1")?;
    let policy = stricter.path().join("policy.yaml");
    let text =
        std::fs::read_to_string(&policy)?.replace(r#"["move_money", "write_record","#, r#"["move_money","#);
    std::fs::write(&policy, text)?;
    let (output, ok) =
        gate.cli(&["apply", &stricter.path().display().to_string(), "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    // What was held is denied as well: it is evaluated again before its permit is issued.
    let mut agent = gate.agent("one").await?;
    let mut denied = BTreeSet::new();
    while denied.len() < 2 {
        let outcome = answer(&mut agent).await?;
        ensure!(outcome.error.as_ref().is_some_and(|error| error.code == "policy"), "{outcome:?}");
        denied.insert(outcome.action.id);
    }
    ensure!(gate.tools.calls() == 0);
    gate.close().await
}

#[tokio::test]
async fn what_waits_can_be_withdrawn_and_expires() -> anyhow::Result<()> {
    let gate = gate("in_flight: 1").await?;
    held(&gate, 0..3).await?;
    let mut agent = gate.agent("one").await?;
    let mut short = proposal("one", "short", "write_record", json!({"n": 7}));
    short["data"]["expires_at"] = json!((Utc::now() + chrono::TimeDelta::seconds(2)).to_rfc3339());
    agent.send(&[short]).await?;
    gate.reaches(WAITING, 3).await?;
    agent.send(&[withdrawal("one", "a-2")]).await?;
    expect(&mut agent, "a-2", Outcome::Cancelled).await?;
    expect(&mut agent, "short", Outcome::Expired).await?;
    ensure!(gate.count(WAITING).await? == 1);
    release(&gate).await?;
    all_succeed(&mut agent, 2).await?;
    gate.close().await
}

#[tokio::test]
async fn what_the_database_refuses_at_its_turn_is_quarantined_alone() -> anyhow::Result<()> {
    let gate = gate("in_flight: 1").await?;
    held(&gate, 0..6).await?;
    gate.reaches(WAITING, 5).await?;
    let client = gate.system.store()?.client().await?;
    let poison: String = client.query_one("SELECT min(event_id) FROM waiting", &[]).await?.get(0);
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           IF NEW.event_id = '{poison}' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '54000'; END IF;
           RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON actions FOR EACH ROW EXECUTE FUNCTION refuse();"
    );
    client.batch_execute(&refuse).await?;
    release(&gate).await?;
    all_succeed(&mut gate.agent("one").await?, 5).await?;
    let kept = "SELECT count(*) FROM quarantine WHERE code = 'poison' AND author = 'agent-one'";
    gate.reaches(kept, 1).await?;
    ensure!(gate.count(WAITING).await? == 0 && gate.count("SELECT count(*) FROM quarantine").await? == 1);
    gate.close().await
}

#[tokio::test]
async fn what_may_not_wait_is_denied_with_a_time_to_come_back() -> anyhow::Result<()> {
    let gate = gate("in_flight: 1, waiting: 1").await?;
    let events = held(&gate, 0..3).await?;
    let mut agent = gate.agent("one").await?;
    // Two lanes take them, in any order.
    let denied = answer(&mut agent).await?;
    let error = denied.error.clone().context("an error")?;
    ensure!(error.code == Code::RateLimited.as_str(), "{error:?}");
    ensure!(error.retry_at.is_some_and(|at| at > Utc::now()), "{error:?}");
    // It is final for this id, and says the same again.
    let same =
        events.iter().find(|event| event["id"] == denied.action.id.as_str()).context("the proposal")?;
    agent.send(std::slice::from_ref(same)).await?;
    let again = answer(&mut agent).await?;
    ensure!(again.action == denied.action && again.error.as_ref() == Some(&error), "{again:?}");
    ensure!(gate.count("SELECT count(*) FROM sampling WHERE selected").await? == 0);
    release(&gate).await?;
    all_succeed(&mut agent, 2).await?;
    gate.close().await
}

#[tokio::test]
async fn an_agent_fills_the_reviewers_inbox_only_to_its_quota() -> anyhow::Result<()> {
    let gate = gate("open_requests: 2").await?;
    let mut agent = gate.agent("one").await?;
    let events: Vec<Value> =
        (0..4).map(|n| proposal("one", &format!("m-{n}"), "move_money", json!({"amount": "500"}))).collect();
    agent.send(&events).await?;
    gate.reaches(WAITING, 2).await?;
    ensure!(gate.count("SELECT count(*) FROM approvals WHERE state = 'open'").await? == 2);
    let mut requests = gate.requests("sam", "approvers").await?;
    let (sam, first) = (gate.reviewer("sam").await?, requests.next().await?);
    sam.decides(&first, Decision::Reject, Some("one less")).await?;
    expect(&mut agent, &first.action.id, Outcome::Rejected).await?;
    gate.reaches("SELECT count(*) FROM approvals", 3).await?;
    drop(requests);
    let _app = gate.approving("sam", "approvers").await?;
    all_succeed(&mut agent, 3).await?;
    gate.close().await
}

#[tokio::test]
async fn a_rate_lets_some_through_at_once_and_the_rest_in_time() -> anyhow::Result<()> {
    let gate = gate("rate: 2").await?;
    let events: Vec<Value> =
        (0..30).map(|n| proposal("one", &format!("a-{n}"), "write_record", json!({"n": n}))).collect();
    let mut agent = gate.agent("one").await?;
    agent.send(&events).await?;
    gate.reaches(WAITING, 1).await?;
    all_succeed(&mut agent, 30).await?;
    // Twenty at once, and two a second from then on.
    let sql = "SELECT count(*) FROM actions
               WHERE proposed_at < (SELECT min(proposed_at) FROM actions) + interval '3 seconds'";
    ensure!(gate.count(sql).await? <= 28, "the rate was not kept");
    gate.close().await
}
