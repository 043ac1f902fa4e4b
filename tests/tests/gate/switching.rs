//! Classes that move between approval and audit, by what people found.

use anyhow::{Context as _, ensure};
use countersign_core::{
    action::Outcome,
    message::{AuditRequest, Decision, Finding},
};
use countersign_testkit::clients::{Agent, finding, proposal};
use countersign_tests::{Gate, answer, evidence::recorded, expect, folder, willing};
use serde_json::{Value, json};

/// Every record is audited once it is executed at once, so one clean approval lets a class go; the third error in a row
/// tightens it, the fourth takes it back.
async fn gate() -> anyhow::Result<Gate> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1, group: auditors}\n",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 1.0, group: auditors}\n    group: approvers\n    \
         expires_after: 10m\n    switching: {limit: 0.2, aoql: 0.2, look_back: 3}\n",
    )?;
    Gate::configured_acting(config, willing).await
}

const CLASS: &str = "allowed/write_record/one@1.4.2";

async fn stage(gate: &Gate) -> anyhow::Result<Value> {
    let (said, done) = gate.cli(&["switching", "list", "--json"]).await?;
    ensure!(done, "{said}");
    let all: Vec<Value> = serde_json::from_str(&said)?;
    let one = all.into_iter().find(|class| class["plan"]["stratum"] == CLASS);
    one.with_context(|| format!("{CLASS} is not in {said}"))
}

async fn becomes(gate: &Gate, stage: &str) -> anyhow::Result<()> {
    let sql =
        format!("SELECT count(*) FROM sampling_plans WHERE stratum = '{CLASS}' AND plan_state = '{stage}'");
    gate.reaches(&sql, 1).await.with_context(|| format!("{CLASS} becomes {stage}"))
}

/// The next record, executed at once and judged.
async fn executes(gate: &Gate, agent: &mut Agent, n: u64) -> anyhow::Result<()> {
    let id = format!("r-{n}");
    agent.propose(&id, "write_record", json!({"n": n})).await?;
    expect(agent, &id, Outcome::Succeeded).await?;
    let judged = format!(
        "SELECT count(*) FROM audits u JOIN actions a ON a.id = u.action WHERE a.event_id = '{id}' AND u.state = 'judged'"
    );
    gate.reaches(&judged, 1).await
}

async fn operates(gate: &Gate, command: &[&str]) -> anyhow::Result<String> {
    let arguments = [&["switching"], command, &["--operator", "olga", "--reason", "a new tariff"]].concat();
    let (said, done) = gate.cli(&arguments).await?;
    ensure!(done, "{said}");
    Ok(said)
}

#[tokio::test]
async fn a_clean_record_lets_a_class_go_and_errors_take_it_back() -> anyhow::Result<()> {
    let gate = gate().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    // Records from the 10th on are wrong.
    let _auditor = gate
        .auditor("ada", |request: &AuditRequest| {
            let arguments: Value = serde_json::from_str(request.action.arguments.get()).ok()?;
            let found = if arguments["n"].as_u64()? >= 10 { Finding::Wrong } else { Finding::Correct };
            Some(finding(request, found, Some("not ordered")))
        })
        .await?;

    // A class that nobody knows is approved first, although its rule allows. What is rejected clears nothing.
    agent.propose("first", "write_record", json!({"n": 1})).await?;
    let asked = requests.next().await?;
    ensure!(asked.why.text.contains("approved first"), "{asked:?}");
    sam.decides(&asked, Decision::Reject, Some("no")).await?;
    expect(&mut agent, "first", Outcome::Rejected).await?;
    gate.reaches("SELECT count(*) FROM sampling WHERE NOT executed", 1).await?;
    ensure!(stage(&gate).await?["plan"]["switching"]["state"] == "pre_approval");
    agent.propose("second", "write_record", json!({"n": 2})).await?;
    sam.decides(&requests.next().await?, Decision::Approve, None).await?;
    expect(&mut agent, "second", Outcome::Succeeded).await?;
    becomes(&gate, "normal").await?;

    for n in 3..6 {
        executes(&gate, &mut agent, n).await?;
    }
    let now = stage(&gate).await?;
    ensure!(now["plan"]["seen"] == json!({"executed": 3, "audited": 3, "wrong": 0}), "{now}");
    for n in 10..13 {
        executes(&gate, &mut agent, n).await?;
    }
    becomes(&gate, "tightened").await?;
    let before = gate.count("SELECT generation FROM active").await?;
    executes(&gate, &mut agent, 13).await?;
    becomes(&gate, "pre_approval").await?;
    ensure!(gate.count("SELECT generation FROM active").await? > before, "it is part of the generation");

    // Back to approval: nothing is executed, and another version of the agent fares no better.
    agent.propose("late", "write_record", json!({"n": 3})).await?;
    ensure!(requests.next().await?.action.id == "late");
    let mut newer = proposal("one", "newer", "write_record", json!({"n": 3}));
    newer["data"]["agent"]["version"] = "2.0".into();
    agent.send(&[newer]).await?;
    ensure!(requests.next().await?.action.id == "newer");
    // Other tools of the rule are other classes.
    let moves = "SELECT count(*) FROM plan_changes";
    ensure!(gate.count(moves).await? == 3);
    let told = "SELECT count(*) FROM evidence WHERE kind = 'sampling_plan.changed' AND body->'seen'->>'executed' IS NOT NULL";
    ensure!(gate.count(told).await? == 3);
    let (said, _) = gate.cli(&["switching", "list"]).await?;
    ensure!(said.contains("ln 100") && said.contains("e-value"), "{said}");
    gate.close().await
}

#[tokio::test]
async fn an_operator_pins_holds_and_resets_a_class() -> anyhow::Result<()> {
    let gate = gate().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    agent.propose("first", "write_record", json!({"n": 1})).await?;
    let asked = requests.next().await?;
    operates(&gate, &["pin", CLASS, "--state", "discontinued"]).await?;
    // In hold even what is approved waits.
    sam.decides(&asked, Decision::Approve, None).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'held' AND approved", 1).await?;
    let (said, done) =
        gate.cli(&["switching", "reset", CLASS, "--operator", "omar", "--reason", "mended"]).await?;
    ensure!(!done && said.contains("unpin it first"), "{said}");
    operates(&gate, &["unpin", CLASS]).await?;
    operates(&gate, &["reset", CLASS]).await?;
    expect(&mut agent, "first", Outcome::Succeeded).await?;

    operates(&gate, &["pin", CLASS, "--state", "normal"]).await?;
    let _auditor = gate
        .auditor("ada", |request: &AuditRequest| Some(finding(request, Finding::Wrong, Some("no"))))
        .await?;
    for n in 10..20 {
        executes(&gate, &mut agent, n).await?;
    }
    let now = stage(&gate).await?;
    ensure!(now["plan"]["switching"]["state"] == "normal" && now["plan"]["pinned_by"] == "olga", "{now}");
    let (said, done) =
        gate.cli(&["switching", "pin", "nothing", "--operator", "olga", "--reason", "x"]).await?;
    ensure!(!done && said.contains("no sampling plan"), "{said}");
    let (said, done) = gate.cli(&["switching", "pin", CLASS, "--operator", "sam", "--reason", "x"]).await?;
    ensure!(!done && said.contains("is not an operator"), "{said}");

    recorded(&gate).await?;
    ensure!(
        gate.count("SELECT count(*) FROM ledger WHERE kind = 'sampling_plan.changed'").await? >= 2,
        "{now}"
    );
    let reason = "position('a new tariff'::bytea IN entry) > 0";
    let free_text = gate.count(&format!("SELECT count(*) FROM ledger WHERE {reason}")).await?;
    ensure!(free_text == 0, "{free_text} entries hold what an operator wrote freely");
    gate.close().await
}

#[tokio::test]
async fn a_confirmed_critical_error_takes_a_class_back_and_the_last_actions_are_looked_at()
-> anyhow::Result<()> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1, group: auditors}\n",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1, group: auditors}\n    group: approvers\n    \
         expires_after: 10m\n    switching: {limit: 0.1, aoql: 0.2, look_back: 25}\n",
    )?;
    let gate = Gate::configured(config.path()).await?;
    let mut agent = gate.agent("one").await?;
    // Known, and pinned: what comes is executed at once.
    agent.propose("first", "write_record", json!({"n": 1})).await?;
    gate.reaches("SELECT count(*) FROM sampling_plans", 1).await?;
    operates(&gate, &["pin", CLASS, "--state", "normal"]).await?;
    operates(&gate, &["unpin", CLASS]).await?;
    let mut executed = 0_u64;
    while gate.count("SELECT count(*) FROM audits").await? == 0 || executed < 40 {
        let batch: Vec<_> = (executed..executed + 20)
            .map(|n| proposal("one", &format!("r-{n}"), "write_record", json!({"n": n})))
            .collect();
        agent.send(&batch).await?;
        for _ in 0..20 {
            ensure!(answer(&mut agent).await?.outcome == Outcome::Succeeded);
        }
        executed += 20;
        gate.reaches("SELECT count(*) FROM sampling", executed as i64).await?;
    }
    let sampled = gate.count("SELECT count(*) FROM audits").await?;
    let critical = |request: &AuditRequest| {
        let severity = Some(countersign_core::message::Severity::Critical);
        let wrong = finding(request, Finding::Wrong, Some("never"));
        Some(countersign_core::message::FindingData { severity, ..wrong })
    };
    // The queue is shared: each judges what comes to them, and what both have seen is confirmed.
    let _ada = gate.auditor("ada", critical).await?;
    let _ben = gate.auditor("ben", critical).await?;
    becomes(&gate, "pre_approval").await?;
    let looked_back = "SELECT count(*) FROM audits WHERE reason = 'look_back'";
    gate.reaches(looked_back, 1).await?;
    let looked = gate.count(looked_back).await?;
    let drawn = "SELECT count(*) FROM (SELECT s.selected FROM sampling s JOIN actions a ON a.id = s.action
                 WHERE a.verdict = 'allow' ORDER BY a.ended_at DESC LIMIT 25) last WHERE selected";
    ensure!(looked == 25 - gate.count(drawn).await?, "{looked} looked at, {sampled} sampled");
    // A census of its own: no estimate knows of it.
    let (said, _) = gate.cli(&["report", "--json"]).await?;
    let report: Value = serde_json::from_str(&said)?;
    let (judged, missing) = (report["rates"][0]["judged"].as_i64(), report["rates"][0]["missing"].as_i64());
    ensure!(judged.zip(missing).map(|(judged, missing)| judged + missing) == Some(sampled), "{said}");
    gate.close().await
}
