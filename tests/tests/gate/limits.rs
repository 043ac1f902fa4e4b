//! Cumulative limits: splitting a large action into small ones gains nothing.

use std::collections::BTreeMap;

use anyhow::ensure;
use countersign_core::{
    action::Outcome,
    message::{Decision, DecisionData},
};
use countersign_testkit::clients::{decision, proposal, withdrawal};
use countersign_tests::{Gate, all_succeed, answer, expect, folder, willing};
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

/// The suites' folder, in which whoever spends too much asks.
fn asking() -> anyhow::Result<tempfile::TempDir> {
    folder(
        "max: \"5000\", exceeded: deny}\n",
        "max: \"5000\", exceeded: require_approval}\n    group: approvers\n    expires_after: 10m\n",
    )
}

#[tokio::test]
async fn amounts_that_nothing_can_add_up_stop_nobody() -> anyhow::Result<()> {
    let gate = Gate::configured_acting(asking()?, willing).await?;
    let (one, mut two) = (gate.agent("one").await?, gate.agent("two").await?);
    for id in ["h-1", "h-2", "h-3", "h-4"] {
        one.send(&[spend("one", id, "79228162514264337593543950335", "customer:mia")]).await?;
        gate.reaches(&waiting(id), 1).await?;
    }
    // They are counted by nothing: an amount that no limit can add up is an error of the rule.
    ensure!(gate.count("SELECT count(*) FROM limit_uses").await? == 0);
    ensure!(gate.count("SELECT count(*) FROM actions WHERE rule = 'on-error'").await? == 4);
    two.send(&[spend("two", "honest", "100", "customer:mia")]).await?;
    expect(&mut two, "honest", Outcome::Succeeded).await?;
    // Under the next generation all that waits is evaluated again, and deadlines are kept.
    gate.apply("Nobody spends more", "Nobody at all spends more").await?;
    two.propose("late", "soon", json!({})).await?;
    expect(&mut two, "late", Outcome::Expired).await?;
    gate.close().await
}

#[tokio::test]
async fn a_sum_beyond_what_can_be_read_is_beyond_the_limit() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    agent.send(&[spend("one", "first", "1", "customer:mia")]).await?;
    expect(&mut agent, "first", Outcome::Succeeded).await?;
    // Twice what a sum is read up to.
    gate.count(
        "WITH many AS (
           INSERT INTO limit_uses (action, limit_id, key, amount)
           SELECT u.action, l.limit_id, l.key, 1000000000000000000
           FROM limit_uses l, LATERAL (SELECT gen_random_uuid() AS action FROM generate_series(1, 20)) u RETURNING action),
         acted AS (
           INSERT INTO actions SELECT (jsonb_populate_record(a, jsonb_build_object('id', m.action, 'event_id', m.action))).*
           FROM actions a, many m RETURNING 1)
         SELECT count(*) FROM acted",
    )
    .await?;
    agent.send(&[spend("one", "more", "1", "customer:mia")]).await?;
    expect(&mut agent, "more", Outcome::Denied).await?;
    agent.send(&[spend("one", "other", "1", "customer:kim")]).await?;
    expect(&mut agent, "other", Outcome::Succeeded).await?;
    gate.close().await
}

#[tokio::test]
async fn spellings_of_one_key_share_one_limit() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    agent.send(&[spend("one", "first", "5000", "customer:lim")]).await?;
    expect(&mut agent, "first", Outcome::Succeeded).await?;
    let spellings =
        ["customer:lim ", " Customer:Lim", "customer:l\u{200b}im", "ｃustomer:lim", "CUSTOMER:LIM"];
    for (n, whom) in spellings.into_iter().enumerate() {
        let id = format!("s-{n}");
        agent.send(&[spend("one", &id, "5000", whom)]).await?;
        expect(&mut agent, &id, Outcome::Denied).await?;
    }
    // Letters that only look alike are an error of the rule, which asks a human.
    agent.send(&[spend("one", "cyrillic", "5000", "customer:l\u{456}m")]).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE rule = 'on-error' AND state = 'pending_approval'", 1)
        .await?;
    ensure!(gate.tools.effects().len() == 1);
    gate.close().await
}

/// Whether an action waits for approval. Requests are published again after a while, so the next one may be another's.
fn waiting(id: &str) -> String {
    format!("SELECT count(*) FROM actions WHERE event_id = '{id}' AND state = 'pending_approval'")
}

/// The suites' folder, in which `few` has another verdict and limit.
fn few(verdict: &str, limit: &str) -> anyhow::Result<tempfile::TempDir> {
    folder(
        "verdict: allow\n    limit: {count: true, by: [agent.id], within: 1h, max: \"2\", exceeded: require_approval}",
        &format!("verdict: {verdict}\n    limit: {{{limit}}}"),
    )
}

#[tokio::test]
async fn what_waits_counts_until_it_has_ended_and_what_was_done_from_then_on() -> anyhow::Result<()> {
    let limit = "count: true, by: [agent.id], within: 10s, max: \"1\", exceeded: deny";
    let gate = Gate::configured_acting(few("require_approval", limit)?, willing).await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    agent.propose("w-1", "few", json!({})).await?;
    let first = requests.next().await?;
    let waited = "SELECT count(*) FROM actions WHERE proposed_at < clock_timestamp() - interval '11 seconds'";
    gate.reaches(waited, 1).await?;
    // It has waited for longer than the limit's period, and will be executed together with what is approved now.
    agent.propose("w-2", "few", json!({})).await?;
    expect(&mut agent, "w-2", Outcome::Denied).await?;
    sam.decides(&first, Decision::Approve, None).await?;
    expect(&mut agent, "w-1", Outcome::Succeeded).await?;
    agent.propose("w-3", "few", json!({})).await?;
    expect(&mut agent, "w-3", Outcome::Denied).await?;
    let done = "SELECT count(*) FROM actions WHERE state = 'succeeded'
                AND ended_at < clock_timestamp() - interval '11 seconds'";
    gate.reaches(done, 1).await?;
    agent.propose("w-4", "few", json!({})).await?;
    gate.reaches(&waiting("w-4"), 1).await?;
    gate.close().await
}

#[tokio::test]
async fn a_limit_stays_the_same_under_another_name_of_its_rule_and_apply_says_when_it_does_not()
-> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    for id in ["f-1", "f-2"] {
        agent.propose(id, "few", json!({})).await?;
    }
    all_succeed(&mut agent, 2).await?;
    let apply = async |dir: tempfile::TempDir| {
        let (output, ok) =
            gate.cli(&["apply", &dir.path().display().to_string(), "--operator", "olga"]).await?;
        ensure!(ok, "{output}");
        Ok(output)
    };
    let renamed = apply(folder("- id: few", "- id: seldom")?).await?;
    ensure!(!renamed.contains("starts anew") && !renamed.contains("no longer counted"), "{renamed}");
    ensure!(renamed.contains("is per agent.on_behalf_of, which the agent chooses freely"), "{renamed}");
    agent.propose("f-3", "few", json!({})).await?;
    // Renaming the rule has not begun a new sum.
    gate.reaches(&waiting("f-3"), 1).await?;
    let limit = "count: true, by: [agent.id], within: 2h, max: \"2\", exceeded: require_approval";
    let other = apply(few("allow", limit)?).await?;
    ensure!(other.contains("the sum starts anew for the limit of few: at most 2 of actions"), "{other}");
    ensure!(other.contains("no longer counted is the limit of seldom: at most 2 of actions"), "{other}");
    gate.close().await
}

#[tokio::test]
async fn what_is_not_stored_uses_up_no_limit_of_others_in_its_batch() -> anyhow::Result<()> {
    // One lane, so that what waits for the router makes one batch.
    let config = folder("[ledger]", "[lanes]\nper_process = 1\n[ledger]")?;
    let mut gate = Gate::configured_acting(config, willing).await?;
    let (mut one, mut two) = (gate.agent("one").await?, gate.agent("two").await?);
    gate.system.kill("router")?;
    // Another agent forges an honest proposal's reference, before it and after it.
    two.send(&[spend("one", "h-1", "5000", "customer:ann")]).await?;
    one.send(&[spend("one", "h-1", "5000", "customer:ann")]).await?;
    one.send(&[spend("one", "h-2", "5000", "customer:ben")]).await?;
    two.send(&[spend("one", "h-2", "5000", "customer:ben")]).await?;
    // An agent withdraws what it proposes, or sends it twice or too late, to block a customer whom both serve.
    one.send(&[withdrawal("one", "w"), spend("one", "w", "5000", "customer:wim")]).await?;
    let mut broken = spend("one", "d", "5000", "customer:lim");
    broken["data"]["tool"] = json!(7);
    one.send(&[broken, spend("one", "d", "5000", "customer:lim")]).await?;
    let mut late = spend("one", "e", "5000", "customer:eva");
    late["data"]["expires_at"] = "2020-01-01T00:00:00Z".into();
    one.send(&[late]).await?;
    for whom in ["wim", "lim", "eva"] {
        two.send(&[spend("two", whom, "5000", &format!("customer:{whom}"))]).await?;
    }
    gate.system.start("router", "router-2")?;
    for _ in 0..3 {
        let outcome = answer(&mut two).await?;
        ensure!(outcome.outcome == Outcome::Succeeded, "{outcome:?}");
    }
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < 5 {
        let outcome = answer(&mut one).await?;
        outcomes.insert(outcome.action.id, outcome.outcome);
    }
    ensure!(outcomes["h-1"] == Outcome::Succeeded && outcomes["h-2"] == Outcome::Succeeded, "{outcomes:?}");
    ensure!(outcomes["w"] == Outcome::Cancelled && outcomes["d"] == Outcome::Denied, "{outcomes:?}");
    ensure!(gate.count("SELECT count(*) FROM quarantine WHERE code = 'source_forged'").await? == 2);
    gate.close().await
}
