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
         expires_after: 10m\n    switching: {limit: 0.2, aoql: 0.2, lag: 10000, look_back: 3}\n",
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
    succeeds(agent, &id).await?;
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

/// What a reviewer waved through and an auditor finds wrong is no clean approval.
#[tokio::test]
async fn an_audit_of_an_approved_action_ends_a_clean_run() -> anyhow::Result<()> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1, group: auditors}\n",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 1.0, floor: 0.1, group: auditors}\n    group: approvers\n    \
         expires_after: 10m\n    switching: {limit: 0.2, aoql: 0.05}\n",
    )?;
    let gate = Gate::configured_acting(config, willing).await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    for n in 1..=2 {
        let id = format!("r-{n}");
        agent.propose(&id, "write_record", json!({"n": n})).await?;
        sam.decides(&requests.next().await?, Decision::Approve, None).await?;
        expect(&mut agent, &id, Outcome::Succeeded).await?;
    }
    let clean = |count: u32| {
        format!(
            "SELECT count(*) FROM sampling_plans WHERE stratum = '{STRATUM}' AND plan_state = 'pre_approval'
             AND switching_state->>'clean' = '{count}'"
        )
    };
    gate.reaches(&clean(2), 1).await?;
    let _auditor = gate
        .auditor("ada", |request: &AuditRequest| {
            let wrong = request.action.id == "r-1";
            let found = if wrong { Finding::Wrong } else { Finding::Correct };
            Some(finding(request, found, Some("not ordered")))
        })
        .await?;
    gate.reaches(&clean(0), 1).await?;
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

/// A proposal to write record `n` by an agent that says it has this version.
fn of_version(version: &str, id: &str, n: u64) -> Value {
    let mut event = proposal("one", id, "write_record", json!({"n": n}));
    event["data"]["agent"]["version"] = version.into();
    event
}

/// Waits until an action has succeeded. Outcomes are delivered at least once, so an earlier one may come again.
async fn succeeds(agent: &mut Agent, id: &str) -> anyhow::Result<()> {
    loop {
        let data = answer(agent).await?;
        ensure!(data.outcome == Outcome::Succeeded, "{data:?}");
        if data.action.id == id {
            return Ok(());
        }
    }
}

async fn waits(gate: &Gate, id: &str) -> anyhow::Result<()> {
    let sql = format!(
        "SELECT count(*) FROM actions WHERE event_id = '{id}' AND state <> 'authorised' AND state <> 'executing'"
    );
    gate.reaches(&sql, 1).await?;
    let waiting =
        format!("SELECT count(*) FROM actions WHERE event_id = '{id}' AND state = 'pending_approval'");
    ensure!(gate.count(&waiting).await? == 1, "{id} was not sent to approval");
    Ok(())
}

/// Clears the agent's usual version, and opens its version 2.0 by one call.
async fn clears(gate: &Gate, agent: &mut Agent) -> anyhow::Result<()> {
    let mut requests = gate.requests("sam", "approvers").await?;
    agent.propose("first", "write_record", json!({"n": 1})).await?;
    gate.reviewer("sam").await?.decides(&requests.next().await?, Decision::Approve, None).await?;
    succeeds(agent, "first").await?;
    becomes(gate, "normal").await?;
    agent.send(&[of_version("2.0", "opens", 2)]).await?;
    succeeds(agent, "opens").await
}

#[tokio::test]
async fn an_agent_does_not_escape_pre_approval_under_another_version() -> anyhow::Result<()> {
    let gate = gate().await?;
    let mut agent = gate.agent("one").await?;
    // Record 13 is a critical error, and both auditors say so.
    let judge = |request: &AuditRequest| {
        let arguments: Value = serde_json::from_str(request.action.arguments.get()).ok()?;
        if arguments["n"] != 13 {
            return Some(finding(request, Finding::Correct, None));
        }
        let severity = Some(countersign_core::message::Severity::Critical);
        let wrong = finding(request, Finding::Wrong, Some("never"));
        Some(countersign_core::message::FindingData { severity, ..wrong })
    };
    let _ada = gate.auditor("ada", judge).await?;
    let _ben = gate.auditor("ben", judge).await?;
    clears(&gate, &mut agent).await?;
    executes(&gate, &mut agent, 13).await?;
    becomes(&gate, "pre_approval").await?;
    agent.send(&[of_version("2.0", "known", 3), of_version("3.0", "new", 4)]).await?;
    waits(&gate, "known").await?;
    waits(&gate, "new").await?;
    // The version that made no error has a reason, too, and its own approvals clear it alone.
    let (output, _) = gate.cli(&["switching", "list"]).await?;
    ensure!(output.contains("together with allowed/write_record/one@1.4.2"), "{output}");
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    for _ in 0..2 {
        let asked = requests.next().await?;
        if asked.action.id == "known" {
            sam.decides(&asked, Decision::Approve, None).await?;
        }
    }
    succeeds(&mut agent, "known").await?;
    let cleared = "SELECT count(*) FROM sampling_plans WHERE plan_state = 'normal' AND stratum LIKE '%@2.0'";
    gate.reaches(cleared, 1).await?;
    agent.send(&[of_version("2.0", "at-once", 5), of_version("4.0", "newest", 6)]).await?;
    succeeds(&mut agent, "at-once").await?;
    waits(&gate, "newest").await?;
    agent.propose("old", "write_record", json!({"n": 7})).await?;
    waits(&gate, "old").await?;
    gate.close().await
}

#[tokio::test]
async fn errors_count_against_an_agent_across_its_versions() -> anyhow::Result<()> {
    let gate = gate().await?;
    let mut agent = gate.agent("one").await?;
    let _auditor = gate
        .auditor("ada", |request: &AuditRequest| {
            let arguments: Value = serde_json::from_str(request.action.arguments.get()).ok()?;
            let found = if arguments["n"].as_u64()? >= 10 { Finding::Wrong } else { Finding::Correct };
            Some(finding(request, found, Some("not ordered")))
        })
        .await?;
    clears(&gate, &mut agent).await?;
    // The fourth error in a row ends the audits by sample; no version makes more than one.
    for n in 10..14 {
        agent.send(&[of_version(&format!("{n}.0"), &format!("r-{n}"), n)]).await?;
        succeeds(&mut agent, &format!("r-{n}")).await?;
        let judged = format!(
            "SELECT count(*) FROM audits u JOIN actions a ON a.id = u.action WHERE a.event_id = 'r-{n}' AND u.state = 'judged'"
        );
        gate.reaches(&judged, 1).await?;
    }
    becomes(&gate, "pre_approval").await?;
    agent.send(&[of_version("14.0", "late", 3), of_version("2.0", "known", 4)]).await?;
    waits(&gate, "late").await?;
    waits(&gate, "known").await?;
    gate.close().await
}

#[tokio::test]
async fn a_version_that_the_directory_does_not_list_begins_in_pre_approval() -> anyhow::Result<()> {
    let gate = gate().await?;
    let mut agent = gate.agent("one").await?;
    clears(&gate, &mut agent).await?;
    // What was opened beside a cleared version, before the list, has no clean record of its own.
    let folder = gate.folder().context("the gate has a folder")?;
    let path = folder.join("directory.yaml");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, text.replace("owner: mara}", "owner: mara, versions: [\"1.4.2\", \"1.5\"]}"))?;
    let (output, ok) = gate.cli(&["apply", &folder.display().to_string(), "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    let mut unnamed = of_version("", "unnamed", 3);
    unnamed["data"]["agent"].as_object_mut().context("an object")?.remove("version");
    agent.send(&[of_version("2.0", "opened", 3), of_version("3.0", "new", 4), unnamed]).await?;
    for id in ["opened", "new", "unnamed"] {
        waits(&gate, id).await?;
    }
    agent.send(&[of_version("1.4.2", "listed", 5)]).await?;
    succeeds(&mut agent, "listed").await?;
    gate.close().await
}

#[tokio::test]
async fn an_agent_with_ever_new_versions_has_a_bounded_number_of_sampling_plans() -> anyhow::Result<()> {
    let gate = gate().await?;
    let mut agent = gate.agent("one").await?;
    clears(&gate, &mut agent).await?;
    // Two lanes may want the same slot, so it can take more than one round to fill all.
    for round in 1..=10 {
        let named = |n| of_version(&format!("x{n}"), &format!("x-{round}-{n}"), n);
        agent.send(&(0..300).map(named).collect::<Vec<_>>()).await?;
        gate.reaches("SELECT count(*) FROM actions", 2 + 300 * round).await?;
        let plans = gate.count("SELECT count(*) FROM sampling_plans").await?;
        ensure!(plans <= 256 && (plans == 256 || round < 10), "{plans} plans");
        if plans == 256 {
            break;
        }
    }
    // Under the next generation what is beyond the bound shares one plan, which begins in pre-approval.
    operates(&gate, &["pin", STRATUM, "--state", "tightened"]).await?;
    agent.send(&[of_version("y1", "y-1", 1), of_version("y2", "y-2", 2)]).await?;
    waits(&gate, "y-1").await?;
    waits(&gate, "y-2").await?;
    let shared = "SELECT count(*) FROM actions WHERE stratum = 'allowed/write_record/one@*'";
    ensure!(gate.count(shared).await? == 2, "they share a stratum");
    ensure!(gate.count("SELECT count(*) FROM sampling_plans").await? <= 257);
    gate.close().await
}
