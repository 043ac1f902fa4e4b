//! Inclusion probabilities: fixed before an action is audited, and stored.

use std::time::Duration;

use anyhow::ensure;
use countersign_core::{action::Outcome, message::Decision};
use countersign_testkit::{clients::proposal, tools::Behaviour, wait::eventually};
use countersign_tests::{Gate, LIMIT, answer, expect, folder, willing};
use serde_json::{Value, json};

async fn gate(audits: &str, audit: &str, settings: &str) -> anyhow::Result<Gate> {
    gate_acting(audits, audit, settings, willing).await
}

async fn gate_acting(
    audits: &str,
    audit: &str,
    settings: &str,
    behaviour: impl Behaviour,
) -> anyhow::Result<Gate> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1,",
        &format!("\"pay\"]\n    verdict: allow\n    audit: {{{audit},"),
    )?;
    let path = config.path().join("policy.yaml");
    let policy = std::fs::read_to_string(&path)?;
    std::fs::write(&path, policy.replacen("default:", &format!("audits: {{{audits}}}\ndefault:"), 1))?;
    let path = config.path().join("countersign.toml");
    let toml = std::fs::read_to_string(&path)?;
    std::fs::write(&path, format!("{toml}\n{settings}"))?;
    Gate::configured_acting(config, behaviour).await
}

fn records(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(|n| proposal("one", &format!("r-{n}"), "write_record", json!({"n": n}))).collect()
}

#[tokio::test]
async fn the_first_actions_of_a_new_version_or_tool_are_all_audited_up_to_a_cap() -> anyhow::Result<()> {
    let gate = gate("first: 5", "rate: 0.0", "").await?;
    let agent = gate.agent("one").await?;
    agent.send(&records(0..40)).await?;
    gate.reaches("SELECT count(*) FROM sampling", 40).await?;
    let forced =
        "SELECT count(*) FROM sampling WHERE selected AND pi = 1 AND forced = 'new_agent' AND cap = 5";
    ensure!(gate.count(forced).await? == 5);
    ensure!(gate.count("SELECT count(*) FROM sampling WHERE selected").await? == 5);
    // A new version counts as a new agent; model, policy and tool are known by now.
    let newer = (0..10_u64).map(|n| {
        let mut event = proposal("one", &format!("v-{n}"), "write_record", json!({"n": n}));
        event["data"]["agent"]["version"] = "2.0".into();
        event
    });
    agent.send(&newer.collect::<Vec<_>>()).await?;
    gate.reaches("SELECT count(*) FROM sampling", 50).await?;
    ensure!(gate.count(forced).await? == 10);
    // And a new tool.
    let moved = (0..10).map(|n| proposal("one", &format!("m-{n}"), "move_money", json!({"amount": "1"})));
    agent.send(&moved.collect::<Vec<_>>()).await?;
    gate.reaches("SELECT count(*) FROM sampling", 60).await?;
    ensure!(gate.count("SELECT count(*) FROM sampling WHERE forced = 'new_tool' AND selected").await? == 5);
    ensure!(gate.count("SELECT count(*) FROM audits").await? == 15);
    gate.close().await
}

#[tokio::test]
async fn failures_are_audited_up_to_a_cap_that_is_recorded() -> anyhow::Result<()> {
    let full = |_: &str, _: &Value| Err::<Value, _>((422, "the book is full".to_owned()));
    let gate = gate_acting("failed: 3", "rate: 0.0", "", full).await?;
    let mut agent = gate.agent("one").await?;
    agent.send(&records(0..10)).await?;
    for _ in 0..10 {
        ensure!(answer(&mut agent).await?.outcome == Outcome::Failed);
    }
    gate.reaches("SELECT count(*) FROM sampling", 10).await?;
    ensure!(gate.count("SELECT count(*) FROM sampling WHERE forced = 'failed' AND cap = 3").await? == 3);
    ensure!(gate.count("SELECT count(*) FROM audits").await? == 3);
    gate.close().await
}

#[tokio::test]
async fn refusals_are_audited_at_their_own_rate_and_counted_separately() -> anyhow::Result<()> {
    let gate = gate("not_executed: 1.0", "rate: 0.0", "").await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    agent.propose("no", "forbidden", json!({})).await?;
    expect(&mut agent, "no", Outcome::Denied).await?;
    agent.propose("much", "move_money", json!({"amount": "500"})).await?;
    gate.reviewer("sam").await?.decides(&requests.next().await?, Decision::Reject, Some("no")).await?;
    expect(&mut agent, "much", Outcome::Rejected).await?;
    agent.propose("r", "write_record", json!({"n": 1})).await?;
    expect(&mut agent, "r", Outcome::Succeeded).await?;
    gate.reaches("SELECT count(*) FROM sampling", 3).await?;
    gate.reaches(
        "SELECT count(*) FROM audits u JOIN actions a ON a.id = u.action WHERE a.started_at IS NULL",
        2,
    )
    .await?;
    let (output, _) = gate.cli(&["report", "--json"]).await?;
    let report: Value = serde_json::from_str(&output)?;
    ensure!(report["rates"][0]["executed"] == 1, "{output}");
    gate.close().await
}

/// The formula in SQL, from the numbers fixed at the epoch's first draw.
const OTHERWISE: &str = "
    SELECT count(*) FROM sampling s
    JOIN epoch_strata e ON e.epoch = s.epoch AND e.stratum = s.stratum
    JOIN epoch_groups g ON g.epoch = s.epoch AND g.group_name = 'auditors'
    WHERE abs(s.wanted - least(1, greatest(0.2, CASE e.expected WHEN 0 THEN 1 ELSE 10.0 / e.expected END))) > 1e-9
       OR abs(s.pi - least(1, greatest(0.05, s.wanted * g.remaining))) > 1e-9
       OR abs(g.remaining - CASE WHEN g.demand <= g.capacity THEN 1 ELSE g.capacity / g.demand END) > 1e-9
       OR abs(g.demand - (SELECT coalesce(sum(wanted), 0) FROM sampling b WHERE b.epoch = s.epoch - 1)) > 1e-6
       OR e.expected <> (SELECT count(*) FROM sampling b WHERE b.epoch = s.epoch - 1 AND b.stratum = s.stratum)";

#[tokio::test]
async fn rates_follow_the_previous_epoch_and_the_auditors_capacity() -> anyhow::Result<()> {
    // Ten audits per epoch are wanted, and auditors have capacity for four.
    let gate = gate(
        "capacity: {auditors: 4800}",
        "rate: 0.2, floor: 0.05, at_least: 10",
        // One lane, so that an epoch's numbers cover the whole previous epoch.
        "[lanes]\nper_process = 1\n[sampling]\nepoch = \"3s\"",
    )
    .await?;
    let agent = gate.agent("one").await?;
    let mut sent = 0;
    eventually("capacity lowers a rate", Duration::from_secs(60), async || {
        agent.send(&records(sent..sent + 20)).await.ok()?;
        sent += 20;
        gate.reaches("SELECT count(*) FROM sampling", sent as i64).await.ok()?;
        let lowered = "SELECT count(*) FROM sampling WHERE pi < wanted";
        (gate.count(lowered).await.ok()? >= 20).then_some(())
    })
    .await?;
    gate.reaches("SELECT count(*) FROM sampling", sent as i64).await?;
    ensure!(
        gate.count("SELECT count(*) FROM sampling WHERE pi = 1").await? > 0,
        "the first epoch has no numbers and must audit everything"
    );
    ensure!(gate.count("SELECT count(*) FROM sampling WHERE pi < 0.05").await? == 0);
    ensure!(gate.count("SELECT count(*) FROM evidence WHERE kind = 'rates.lowered'").await? >= 1);
    ensure!(gate.count(OTHERWISE).await? == 0);
    gate.close().await
}

#[tokio::test]
async fn an_agent_uses_up_only_its_own_share_of_what_is_always_audited() -> anyhow::Result<()> {
    let full = |tool: &str, _: &Value| match tool {
        "write_record" => Err::<Value, _>((422, "the book is full".to_owned())),
        _ => Ok(json!({})),
    };
    let gate = gate_acting("failed: 3, first: 4", "rate: 0.0", "", full).await?;
    let mut agents = [gate.agent("one").await?, gate.agent("two").await?];
    // The first agent is first with everything, under the second's model and version.
    for (index, agent) in agents.iter_mut().enumerate() {
        let id = agent.id.clone();
        let events = (0..20_u64).map(|n| {
            let tool = if n % 2 == 0 { "write_record" } else { "send_letter" };
            proposal(&id, &format!("a-{n}"), tool, json!({"n": n}))
        });
        agent.send(&events.collect::<Vec<_>>()).await?;
        for _ in 0..20 {
            answer(agent).await?;
        }
        gate.reaches("SELECT count(*) FROM sampling", 20 * (index as i64 + 1)).await?;
    }
    let of = async |agent: &str, reason: &str| {
        let sql = format!(
            "SELECT count(*) FROM sampling s JOIN actions a ON a.id = s.action
             WHERE a.agent = '{agent}' AND s.forced = '{reason}' AND s.selected"
        );
        gate.count(&sql).await
    };
    for reason in ["failed", "new_agent", "new_tool"] {
        let (one, two) = (of("one", reason).await?, of("two", reason).await?);
        ensure!(one == two, "{reason}: {one} of the first agent, {two} of the second");
    }
    ensure!(of("two", "failed").await? == 3);
    // Names that an agent invents are bounded: no further rows, and no further audits.
    let named = (0..200_u64).map(|n| {
        let mut event = proposal("one", &format!("n-{n}"), "send_letter", json!({"n": n}));
        event["data"]["agent"]["version"] = format!("v{n}").into();
        event["data"]["agent"]["model"] = format!("m{n}").into();
        event
    });
    agents[0].send(&named.collect::<Vec<_>>()).await?;
    gate.reaches("SELECT count(*) FROM sampling", 240).await?;
    let rows = gate.count("SELECT count(*) FROM forced").await?;
    ensure!(rows < 120, "{rows} names");
    ensure!(of("one", "new_agent").await? <= 40);
    gate.close().await
}

#[tokio::test]
async fn an_agent_that_asks_for_much_lowers_the_rates_of_no_other() -> anyhow::Result<()> {
    // Auditors have capacity for five an epoch.
    let gate = gate(
        "capacity: {auditors: 6000}",
        "rate: 0.2, floor: 0.05",
        "[lanes]\nper_process = 1\n[sampling]\nepoch = \"3s\"",
    )
    .await?;
    let (one, two) = (gate.agent("one").await?, gate.agent("two").await?);
    let (mut rounds, mut sent) = (0, 0);
    let scarce = "SELECT count(*) FROM sampling s JOIN actions a ON a.id = s.action
                  JOIN epoch_groups g ON g.epoch = s.epoch AND g.remaining < 1";
    let lowered = "WHERE s.pi < s.wanted AND a.agent";
    eventually("both act while capacity is scarce", 2 * LIMIT, async || {
        one.send(&records(rounds * 50..rounds * 50 + 50)).await.ok()?;
        sent += 50;
        // Seldom, so that it asks for less than half of the capacity however fast the rounds are.
        if rounds % 5 == 0 {
            two.propose(&format!("t-{rounds}"), "write_record", json!({"n": rounds})).await.ok()?;
            sent += 1;
        }
        rounds += 1;
        gate.reaches("SELECT count(*) FROM sampling", sent).await.ok()?;
        let first = gate.count(&format!("{scarce} {lowered} = 'one'")).await.ok()?;
        let second = gate.count(&format!("{scarce} WHERE a.agent = 'two'")).await.ok()?;
        (first >= 50 && second >= 2).then_some(())
    })
    .await?;
    let others = gate.count(&format!("{scarce} {lowered} = 'two'")).await?;
    ensure!(others == 0, "{others} rates of the second agent were lowered in {rounds} rounds");
    gate.close().await
}
