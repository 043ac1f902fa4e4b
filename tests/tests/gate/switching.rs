//! Sampling plans that switch between approval and audit, depending on findings.

use anyhow::{Context as _, ensure};
use countersign_core::{
    action::Outcome,
    message::{AuditRequest, Decision, Finding},
};
use countersign_testkit::clients::{Agent, finding, proposal};
use countersign_tests::{Gate, answer, evidence::recorded, expect, folder, willing};
use serde_json::{Value, json};

/// A gate that audits every record executed without approval. One clean approval ends pre-approval; the third error in a
/// row tightens the plan, the fourth restores pre-approval.
async fn gate() -> anyhow::Result<Gate> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1, group: auditors}\n",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 1.0, group: auditors}\n    group: approvers\n    \
         expires_after: 10m\n    switching: {limit: 0.2, aoql: 0.2, look_back: 3}\n",
    )?;
    Gate::configured_acting(config, willing).await
}

const STRATUM: &str = "allowed/write_record/one@1.4.2";

async fn sampling_plan(gate: &Gate) -> anyhow::Result<Value> {
    let (output, ok) = gate.cli(&["switching", "list", "--json"]).await?;
    ensure!(ok, "{output}");
    let all: Vec<Value> = serde_json::from_str(&output)?;
    let one = all.into_iter().find(|entry| entry["plan"]["stratum"] == STRATUM);
    one.with_context(|| format!("{STRATUM} is not in {output}"))
}

async fn becomes(gate: &Gate, state: &str) -> anyhow::Result<()> {
    let sql =
        format!("SELECT count(*) FROM sampling_plans WHERE stratum = '{STRATUM}' AND plan_state = '{state}'");
    gate.reaches(&sql, 1).await.with_context(|| format!("{STRATUM} becomes {state}"))
}

/// Proposes record `n`, which is executed without approval, and waits until its audit is settled.
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
    let (output, ok) = gate.cli(&arguments).await?;
    ensure!(ok, "{output}");
    Ok(output)
}

#[tokio::test]
async fn a_clean_record_ends_pre_approval_and_errors_restore_it() -> anyhow::Result<()> {
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

    // An unknown stratum starts in pre-approval, although its rule allows. A rejection does not end it.
    agent.propose("first", "write_record", json!({"n": 1})).await?;
    let asked = requests.next().await?;
    ensure!(asked.why.text.contains("approved first"), "{asked:?}");
    sam.decides(&asked, Decision::Reject, Some("no")).await?;
    expect(&mut agent, "first", Outcome::Rejected).await?;
    gate.reaches("SELECT count(*) FROM sampling WHERE NOT executed", 1).await?;
    ensure!(sampling_plan(&gate).await?["plan"]["switching"]["state"] == "pre_approval");
    agent.propose("second", "write_record", json!({"n": 2})).await?;
    sam.decides(&requests.next().await?, Decision::Approve, None).await?;
    expect(&mut agent, "second", Outcome::Succeeded).await?;
    becomes(&gate, "normal").await?;

    for n in 3..6 {
        executes(&gate, &mut agent, n).await?;
    }
    let now = sampling_plan(&gate).await?;
    ensure!(now["plan"]["seen"] == json!({"executed": 3, "audited": 3, "wrong": 0}), "{now}");
    for n in 10..13 {
        executes(&gate, &mut agent, n).await?;
    }
    becomes(&gate, "tightened").await?;
    let before = gate.count("SELECT generation FROM active").await?;
    executes(&gate, &mut agent, 13).await?;
    becomes(&gate, "pre_approval").await?;
    ensure!(gate.count("SELECT generation FROM active").await? > before, "it is part of the generation");

    // Back in pre-approval nothing is executed, not even for another version of the agent.
    agent.propose("late", "write_record", json!({"n": 3})).await?;
    ensure!(requests.next().await?.action.id == "late");
    let mut newer = proposal("one", "newer", "write_record", json!({"n": 3}));
    newer["data"]["agent"]["version"] = "2.0".into();
    agent.send(&[newer]).await?;
    ensure!(requests.next().await?.action.id == "newer");
    // Other tools of the rule are other strata.
    let moves = "SELECT count(*) FROM plan_changes";
    ensure!(gate.count(moves).await? == 3);
    let recorded = "SELECT count(*) FROM evidence WHERE kind = 'sampling_plan.changed' AND body->'seen'->>'executed' IS NOT NULL";
    ensure!(gate.count(recorded).await? == 3);
    let (output, _) = gate.cli(&["switching", "list"]).await?;
    ensure!(output.contains("ln 100") && output.contains("e-value"), "{output}");
    gate.close().await
}

#[tokio::test]
async fn an_operator_pins_discontinues_and_resets_a_stratum() -> anyhow::Result<()> {
    let gate = gate().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    agent.propose("first", "write_record", json!({"n": 1})).await?;
    let asked = requests.next().await?;
    operates(&gate, &["pin", STRATUM, "--state", "discontinued"]).await?;
    // In `discontinued` even an approved action waits.
    sam.decides(&asked, Decision::Approve, None).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'held' AND approved", 1).await?;
    let (output, ok) =
        gate.cli(&["switching", "reset", STRATUM, "--operator", "omar", "--reason", "mended"]).await?;
    ensure!(!ok && output.contains("unpin it first"), "{output}");
    operates(&gate, &["unpin", STRATUM]).await?;
    operates(&gate, &["reset", STRATUM]).await?;
    expect(&mut agent, "first", Outcome::Succeeded).await?;

    operates(&gate, &["pin", STRATUM, "--state", "normal"]).await?;
    let _auditor = gate
        .auditor("ada", |request: &AuditRequest| Some(finding(request, Finding::Wrong, Some("no"))))
        .await?;
    for n in 10..20 {
        executes(&gate, &mut agent, n).await?;
    }
    let now = sampling_plan(&gate).await?;
    ensure!(now["plan"]["switching"]["state"] == "normal" && now["plan"]["pinned_by"] == "olga", "{now}");
    let (output, ok) =
        gate.cli(&["switching", "pin", "nothing", "--operator", "olga", "--reason", "x"]).await?;
    ensure!(!ok && output.contains("no sampling plan"), "{output}");
    let (output, ok) = gate.cli(&["switching", "pin", STRATUM, "--operator", "sam", "--reason", "x"]).await?;
    ensure!(!ok && output.contains("is not an operator"), "{output}");

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
async fn a_confirmed_critical_error_restores_pre_approval_and_audits_the_last_actions() -> anyhow::Result<()>
{
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1, group: auditors}\n",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1, group: auditors}\n    group: approvers\n    \
         expires_after: 10m\n    switching: {limit: 0.1, aoql: 0.2, look_back: 25}\n",
    )?;
    let gate = Gate::configured(config.path()).await?;
    let mut agent = gate.agent("one").await?;
    // Makes the stratum known and sets its plan to `normal`, so that actions are executed without approval.
    agent.propose("first", "write_record", json!({"n": 1})).await?;
    gate.reaches("SELECT count(*) FROM sampling_plans", 1).await?;
    operates(&gate, &["pin", STRATUM, "--state", "normal"]).await?;
    operates(&gate, &["unpin", STRATUM]).await?;
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
    // The two share the queue; an error that both found critical is confirmed.
    let _ada = gate.auditor("ada", critical).await?;
    let _ben = gate.auditor("ben", critical).await?;
    becomes(&gate, "pre_approval").await?;
    let looked_back = "SELECT count(*) FROM audits WHERE reason = 'look_back'";
    gate.reaches(looked_back, 1).await?;
    let looked = gate.count(looked_back).await?;
    let drawn = "SELECT count(*) FROM (SELECT s.selected FROM sampling s JOIN actions a ON a.id = s.action
                 WHERE a.verdict = 'allow' ORDER BY a.ended_at DESC LIMIT 25) last WHERE selected";
    ensure!(looked == 25 - gate.count(drawn).await?, "{looked} audited by look-back, {sampled} sampled");
    // Look-back audits are a census and must not enter the estimates.
    let (output, _) = gate.cli(&["report", "--json"]).await?;
    let report: Value = serde_json::from_str(&output)?;
    let (judged, missing) = (report["rates"][0]["judged"].as_i64(), report["rates"][0]["missing"].as_i64());
    ensure!(judged.zip(missing).map(|(judged, missing)| judged + missing) == Some(sampled), "{output}");
    gate.close().await
}
