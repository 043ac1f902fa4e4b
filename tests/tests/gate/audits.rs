//! What is audited, what the audits show, and how anybody can check that the draw was fair.

use anyhow::{Context as _, ensure};
use countersign_broker::reader::Reader;
use countersign_core::message::{Decision, DecisionData, FeedbackData, FeedbackKind, Finding, FindingData};
use countersign_testkit::clients::{decision, finding, proposal};
use countersign_tests::{Gate, answer, folder};
use serde_json::{Value, json};

/// A quarter of all records is wrong, and half of them are audited.
const ACTIONS: usize = 200;

async fn executed(gate: &Gate) -> anyhow::Result<()> {
    let mut agent = gate.agent("one").await?;
    let event = |n: usize| proposal("one", &format!("r-{n}"), "write_record", json!({"n": n}));
    agent.send(&(0..ACTIONS).map(event).collect::<Vec<_>>()).await?;
    for _ in 0..ACTIONS {
        answer(&mut agent).await?;
    }
    gate.reaches("SELECT count(*) FROM sampling", ACTIONS as i64).await
}

#[tokio::test]
async fn every_draw_can_be_reproduced_once_its_epoch_has_closed() -> anyhow::Result<()> {
    let config = folder(
        "republish_after = \"3s\"",
        "republish_after = \"3s\"\n[limits]\ntransaction = \"5s\"\n[sampling]\nepoch = \"1s\"",
    )?;
    let gate = Gate::configured(config.path()).await?;
    executed(&gate).await?;
    ensure!(gate.count("SELECT count(*) FROM evidence WHERE kind = 'epoch.opened'").await? >= 1);
    let (output, ok) = gate.cli(&["audits", "prove"]).await?;
    ensure!(ok && output.contains("open"), "{output}");
    let open = "SELECT count(*) FROM epochs WHERE epoch NOT IN (SELECT epoch FROM epoch_keys)";
    countersign_testkit::wait::eventually("every epoch closes", countersign_tests::LIMIT, async || {
        (gate.count(open).await.ok()? == 0).then_some(())
    })
    .await?;
    ensure!(gate.count("SELECT count(*) FROM evidence WHERE kind = 'epoch.closed'").await? >= 1);
    let (output, ok) = gate.cli(&["audits", "prove", "--json"]).await?;
    let proofs: Vec<Value> = serde_json::from_str(&output)?;
    ensure!(ok && proofs.iter().all(|proof| proof["found"] == "proved"), "{output}");
    let draws: u64 = proofs.iter().filter_map(|proof| proof["draws"].as_u64()).sum();
    ensure!(draws == ACTIONS as u64, "{output}");

    // Somebody with database access exempts an action from its audit.
    let spared = "WITH spared AS (SELECT action FROM sampling ORDER BY action LIMIT 1),
                  changed AS (UPDATE sampling s SET selected = NOT selected FROM spared WHERE s.action = spared.action
                              RETURNING 1)
                  SELECT count(*) FROM changed";
    ensure!(gate.count(spared).await? == 1);
    let (output, ok) = gate.cli(&["audits", "prove"]).await?;
    ensure!(!ok && output.contains("wrong"), "{output}");
    gate.close().await
}

#[tokio::test]
async fn an_agent_receives_feedback_on_rejections_edits_and_corrections() -> anyhow::Result<()> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1,",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 1.0,",
    )?;
    let gate = Gate::configured(config.path()).await?;
    let agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    let mut feedback =
        Reader::open(gate.system.url("agent-one")?, "test", "countersign.feedback.one").await?;
    let mut next = async || -> anyhow::Result<FeedbackData> {
        Ok(feedback.next::<FeedbackData>(countersign_tests::LIMIT).await?.context("no feedback came")?.data)
    };

    agent.propose("bad", "move_money", json!({"amount": "500"})).await?;
    sam.decides(&requests.next().await?, Decision::Reject, Some("not ordered")).await?;
    let received = next().await?;
    ensure!(
        received.kind == FeedbackKind::Rejection && received.rationale.as_deref() == Some("not ordered"),
        "{received:?}"
    );
    ensure!(received.call.arguments == json!({"amount": "500"}) && received.corrected.is_none());

    agent.propose("much", "move_money", json!({"amount": "900"})).await?;
    let asked = requests.next().await?;
    let edit =
        DecisionData { arguments: Some(json!({"amount": "300"})), ..decision(&asked, Decision::Edit, None) };
    sam.submit(&[edit]).await?;
    let received = next().await?;
    ensure!(
        received.kind == FeedbackKind::Edit && received.call.arguments == json!({"amount": "900"}),
        "{received:?}"
    );
    let patch = json!([{"op": "replace", "path": "/arguments/amount", "value": "300"}]);
    ensure!(received.patch == Some(patch), "{received:?}");

    let _auditor = gate
        .auditor("ada", |request| {
            let correction = Some(json!({"arguments": {"n": 2}}));
            let wrong = finding(request, Finding::Wrong, Some("the next one was meant"));
            Some(FindingData { correction, ..wrong })
        })
        .await?;
    agent.propose("record", "write_record", json!({"n": 1})).await?;
    let received = next().await?;
    ensure!(received.kind == FeedbackKind::Correction && received.pi == Some(1.0), "{received:?}");
    ensure!(received.corrected.is_some_and(|call| call.arguments == json!({"n": 2})));
    gate.close().await
}

#[tokio::test]
async fn the_report_estimates_the_error_rate_with_an_interval() -> anyhow::Result<()> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1,",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.5,",
    )?;
    let gate = Gate::configured(config.path()).await?;
    executed(&gate).await?;
    let (output, _) = gate.cli(&["report", "--json"]).await?;
    let before: Value = serde_json::from_str(&output)?;
    let all = &before["rates"][0];
    ensure!(all["missing"].as_u64() > Some(50), "{output}");
    ensure!(["rate", "errors", "undetected"].iter().all(|member| all.get(member).is_none()), "{output}");
    ensure!(all["at_most"]["undetected"].as_u64() > all["missing"].as_u64(), "{output}");
    ensure!(all["lower"] == 0.0 && all["upper"] == 1.0, "{output}");

    let _auditor = gate
        .auditor("ada", |request| {
            let arguments: Value = serde_json::from_str(request.action.arguments.get()).ok()?;
            let wrong = arguments["n"].as_u64()? % 4 == 0;
            let found = if wrong { Finding::Wrong } else { Finding::Correct };
            Some(finding(request, found, Some("a multiple of four")))
        })
        .await?;
    let open = "SELECT count(*) FROM audits WHERE state = 'open'";
    countersign_testkit::wait::eventually("every audit is judged", countersign_tests::LIMIT, async || {
        (gate.count(open).await.ok()? == 0).then_some(())
    })
    .await?;
    let (output, _) = gate.cli(&["report", "--json"]).await?;
    let report: Value = serde_json::from_str(&output)?;
    let all = &report["rates"][0];
    let number = |member: &str| all[member].as_f64().context("a number");
    ensure!(all["executed"] == ACTIONS as u64 && all["missing"] == 0, "{output}");
    ensure!(number("lower")? < 0.25 && number("upper")? > 0.25, "{output}");
    let most = &all["at_most"];
    let [errors, undetected] = ["errors", "undetected"].map(|member| most[member].as_u64());
    let wrong = all["wrong"].as_u64().context("a count")?;
    ensure!(undetected > Some(0) && errors == undetected.map(|undetected| undetected + wrong), "{output}");
    ensure!(report["rates"][1]["rule"] == "allowed" && report["rates"][1]["stratum"].is_null(), "{output}");
    ensure!(report["rates"][2]["stratum"] == "allowed/write_record/one@1.4.2", "{output}");
    let (output, ok) = gate.cli(&["report"]).await?;
    ensure!(ok && output.contains("ALL THAT WAS EXECUTED") && output.contains("95 % interval"), "{output}");
    let (output, ok) = gate.cli(&["report", "--at-most"]).await?;
    let sentence = format!("{ACTIONS} actions accepted from");
    ensure!(ok && output.contains(&sentence) && output.contains("at every moment at once"), "{output}");
    gate.close().await
}
