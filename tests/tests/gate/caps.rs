//! What nobody knows of an agent's actions returns them to approval: audits that are late, errors that may be undetected.

use anyhow::{Context as _, ensure};
use countersign_core::{
    action::Outcome,
    message::{AuditRequest, Decision, Finding},
};
use countersign_testkit::{
    clients::{Agent, finding, proposal},
    wait::eventually,
};
use countersign_tests::{
    Gate, LIMIT, answer,
    evidence::{recorded, verify},
    folder, willing,
};
use serde_json::{Value, json};

/// A gate with short epochs in which one clean approval ends pre-approval.
async fn gate(audits: &str, rate: f64, caps: &str) -> anyhow::Result<Gate> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1, group: auditors}\n",
        &format!(
            "\"pay\"]\n    verdict: allow\n    audit: {{rate: {rate}, group: auditors}}\n    group: approvers\n    \
             expires_after: 10m\n    switching: {{limit: 0.3, aoql: 0.9, {caps}}}\n"
        ),
    )?;
    for (file, from, to) in [
        ("policy.yaml", "rules:\n", format!("{audits}rules:\n")),
        (
            "countersign.toml",
            "republish_after = \"3s\"",
            "republish_after = \"3s\"\n[limits]\ntransaction = \"5s\"\n[sampling]\nepoch = \"1s\"".to_owned(),
        ),
    ] {
        let path = config.path().join(file);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{file} has no {from:?}");
        std::fs::write(&path, text.replacen(from, &to, 1))?;
    }
    Gate::configured_acting(config, willing).await
}

/// Sends records and waits until all have their draws.
async fn executes(gate: &Gate, agent: &mut Agent, records: std::ops::Range<u64>) -> anyhow::Result<()> {
    let drawn = gate.count("SELECT count(*) FROM sampling").await?;
    let count = records.end - records.start;
    let event = |n: u64| proposal("one", &format!("r-{n}"), "write_record", json!({"n": n}));
    agent.send(&records.map(event).collect::<Vec<_>>()).await?;
    for _ in 0..count {
        ensure!(answer(agent).await?.outcome == Outcome::Succeeded);
    }
    gate.reaches("SELECT count(*) FROM sampling", drawn + count as i64).await
}

/// Clears the agent by one approval of this record. Others may be waiting for an approval, too.
async fn clears(gate: &Gate, agent: &mut Agent, record: &str) -> anyhow::Result<()> {
    let mut requests = gate.requests("sam", "approvers").await?;
    agent.propose(record, "write_record", json!({"n": 0})).await?;
    loop {
        let asked = requests.next().await?;
        if asked.action.id == record {
            gate.reviewer("sam").await?.decides(&asked, Decision::Approve, None).await?;
            break;
        }
    }
    ensure!(answer(agent).await?.outcome == Outcome::Succeeded);
    gate.reaches("SELECT count(*) FROM sampling_plans WHERE plan_state = 'normal'", 1).await
}

/// Waits until no plan executes at once any more. Returns why.
async fn returned(gate: &Gate) -> anyhow::Result<String> {
    let executing = "SELECT count(*) FROM sampling_plans WHERE plan_state <> 'pre_approval'";
    eventually("all is back in pre-approval", LIMIT, async || {
        (gate.count(executing).await.ok()? == 0).then_some(())
    })
    .await?;
    let (output, ok) = gate.cli(&["report", "--json"]).await?;
    ensure!(ok, "{output}");
    let report: Value = serde_json::from_str(&output)?;
    let changes = report["learning"]["plan_changes"].as_array().context("the report has plan changes")?;
    let last = changes.iter().rev().find(|change| change["state"] == "pre_approval");
    let reason = last.and_then(|change| change["reason"].as_str()).with_context(|| output.clone())?;
    let (output, ok) = gate.cli(&["switching", "list", "--json"]).await?;
    ensure!(ok && output.contains(reason), "{output}");
    Ok(reason.to_owned())
}

/// Fails unless a record waits for approval.
async fn waits(gate: &Gate, agent: &mut Agent, record: &str, version: &str) -> anyhow::Result<()> {
    let mut event = proposal("one", record, "write_record", json!({"n": 1}));
    event["data"]["agent"]["version"] = version.into();
    agent.send(&[event]).await?;
    let sql =
        format!("SELECT count(*) FROM actions WHERE event_id = '{record}' AND state = 'pending_approval'");
    gate.reaches(&sql, 1).await
}

/// Fails unless what was counted is what the stored draws and audits say.
async fn counted_rightly(gate: &Gate) -> anyhow::Result<()> {
    let different = "SELECT count(*) FROM
        (SELECT sum(executed) e, sum(judged) j, sum(wrong) w, sum(missing) m FROM plan_cells) counted,
        (SELECT count(*) e, count(*) FILTER (WHERE u.state = 'judged') j, count(*) FILTER (WHERE u.finding = 'wrong') w,
                count(*) FILTER (WHERE u.state = 'open') m
         FROM sampling s JOIN actions a ON a.id = s.action AND a.verdict = 'allow' AND s.executed
         LEFT JOIN audits u ON u.action = s.action AND s.selected) stored
        WHERE (counted.e, counted.j, counted.w, counted.m) IS DISTINCT FROM (stored.e, stored.j, stored.w, stored.m)";
    ensure!(gate.count(different).await? == 0, "what was counted is not what is stored");
    Ok(())
}

#[tokio::test]
async fn auditors_who_stop_judging_return_a_class_to_approval() -> anyhow::Result<()> {
    let gate = gate("", 1.0, "lag: 3").await?;
    let mut agent = gate.agent("one").await?;
    clears(&gate, &mut agent, "first").await?;
    let judged = {
        let judge = |request: &AuditRequest| Some(finding(request, Finding::Correct, None));
        let _auditor = gate.auditor("ada", judge).await?;
        // Of the approved one, too.
        for n in 0..6 {
            executes(&gate, &mut agent, n..n + 1).await?;
            gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", n as i64 + 2).await?;
        }
        gate.count("SELECT count(*) FROM audits WHERE state = 'judged'").await?
    };
    // From now on nobody judges. The next one is audited, and three more may follow it.
    executes(&gate, &mut agent, 10..14).await?;
    ensure!(gate.count("SELECT count(*) FROM sampling_plans WHERE plan_state = 'normal'").await? == 1);
    let before = gate.count("SELECT generation FROM active").await?;
    executes(&gate, &mut agent, 14..15).await?;
    let reason = returned(&gate).await?;
    ensure!(reason.starts_with("4 actions were executed") && reason.ends_with("the lag is 3"), "{reason}");
    ensure!(gate.count("SELECT generation FROM active").await? > before, "it is part of the generation");
    waits(&gate, &mut agent, "same", "1.4.2").await?;
    waits(&gate, &mut agent, "other", "2.0").await?;
    ensure!(gate.count("SELECT count(*) FROM audits WHERE state = 'judged'").await? == judged);
    counted_rightly(&gate).await?;

    // It comes back in the ordinary way, and what is still late counts no more.
    clears(&gate, &mut agent, "again").await?;
    executes(&gate, &mut agent, 20..24).await?;
    ensure!(gate.count("SELECT count(*) FROM sampling_plans WHERE plan_state = 'normal'").await? == 1);

    // The return is evidence, which holds.
    let open = "SELECT count(*) FROM epochs WHERE epoch NOT IN (SELECT epoch FROM epoch_keys)";
    eventually("every epoch closes", LIMIT, async || (gate.count(open).await.ok()? == 0).then_some(()))
        .await?;
    let (output, ok) = gate.cli(&["audits", "prove"]).await?;
    ensure!(ok && output.contains("proved"), "{output}");
    recorded(&gate).await?;
    let (output, ok) = verify(&gate, &[]).await?;
    ensure!(ok, "{output}");
    let noted = "SELECT count(*) FROM ledger WHERE kind = 'sampling_plan.changed'
                 AND position('the lag is 3'::bytea IN entry) > 0";
    ensure!(gate.count(noted).await? == 1, "the ledger does not say why");
    gate.close().await
}

#[tokio::test]
async fn an_audit_that_waits_for_a_second_auditor_is_overdue_like_any_other() -> anyhow::Result<()> {
    let gate = gate("audits: {twice: 1.0}\n", 1.0, "due: 2s").await?;
    let mut agent = gate.agent("one").await?;
    clears(&gate, &mut agent, "first").await?;
    let judge = |request: &AuditRequest| Some(finding(request, Finding::Correct, None));
    let _ada = gate.auditor("ada", judge).await?;
    executes(&gate, &mut agent, 1..2).await?;
    gate.reaches("SELECT count(*) FROM findings f JOIN audits u ON u.id = f.audit WHERE u.state = 'open'", 1)
        .await?;
    // Nothing happens any more; the sweep notices.
    let reason = returned(&gate).await?;
    ensure!(reason.starts_with("an audit has not been settled for"), "{reason}");
    waits(&gate, &mut agent, "next", "1.4.2").await?;
    // The second finding is welcome, and changes nothing.
    let _ben = gate.auditor("ben", judge).await?;
    gate.reaches("SELECT count(*) FROM audits u JOIN actions a ON a.id = u.action WHERE a.event_id = 'r-1' AND u.state = 'judged'", 1)
        .await?;
    counted_rightly(&gate).await?;
    gate.close().await
}

#[tokio::test]
async fn errors_that_may_be_undetected_return_a_class_to_approval_and_are_looked_for() -> anyhow::Result<()> {
    let gate = gate("", 0.5, "lag: 1000, look_back: 1000, at_most: {errors: 12}").await?;
    let mut agent = gate.agent("one").await?;
    clears(&gate, &mut agent, "first").await?;
    // What is audited may be wrong as long as nobody has judged it.
    let mut sent = 0;
    while gate.count("SELECT count(*) FROM plan_changes WHERE plan_state = 'pre_approval'").await? == 0 {
        ensure!(sent < 100, "nothing returned");
        executes(&gate, &mut agent, sent..sent + 1).await?;
        sent += 1;
    }
    let reason = returned(&gate).await?;
    ensure!(reason.contains("errors may be undetected") && reason.contains("12 are allowed"), "{reason}");
    let looked = gate.count("SELECT count(*) FROM audits WHERE reason = 'look_back'").await?;
    let undrawn = "SELECT count(*) FROM sampling s JOIN actions a ON a.id = s.action
                   WHERE a.verdict = 'allow' AND NOT s.selected";
    ensure!(looked == gate.count(undrawn).await?, "{looked} were looked at");
    counted_rightly(&gate).await?;
    gate.close().await
}
