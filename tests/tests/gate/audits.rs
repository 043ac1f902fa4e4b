//! What is audited, what the audits show, and how anybody can check that the draw was fair.

use anyhow::{Context as _, ensure};
use countersign_broker::reader::Reader;
use countersign_core::message::{Decision, DecisionData, FeedbackData, FeedbackKind, Finding, FindingData};
use countersign_testkit::clients::{decision, finding, proposal};
use countersign_testkit::wait::eventually;
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

fn short_epochs() -> anyhow::Result<tempfile::TempDir> {
    folder(
        "republish_after = \"3s\"",
        "republish_after = \"3s\"\n[limits]\ntransaction = \"5s\"\n[sampling]\nepoch = \"1s\"",
    )
}

async fn epochs_close(gate: &Gate) -> anyhow::Result<()> {
    let open = "SELECT count(*) FROM epochs WHERE epoch NOT IN (SELECT epoch FROM epoch_keys)";
    eventually("every epoch closes", countersign_tests::LIMIT, async || {
        (gate.count(open).await.ok()? == 0).then_some(())
    })
    .await
}

/// Changes the database by its owner's hand.
async fn changes(gate: &Gate, sql: &str) -> anyhow::Result<()> {
    let store = gate.system.store()?;
    let tx = store.transaction().await?;
    let changed = tx.execute(sql, &[]).await.with_context(|| sql.to_owned())?;
    ensure!(changed > 0 || sql.contains("TABLE"), "{sql}");
    tx.commit().await?;
    Ok(())
}

#[tokio::test]
async fn every_draw_can_be_reproduced_once_its_epoch_has_closed() -> anyhow::Result<()> {
    let config = short_epochs()?;
    let gate = Gate::configured(config.path()).await?;
    executed(&gate).await?;
    ensure!(gate.count("SELECT count(*) FROM evidence WHERE kind = 'epoch.opened'").await? >= 1);
    let (output, ok) = gate.cli(&["audits", "prove"]).await?;
    ensure!(ok && output.contains("open"), "{output}");
    epochs_close(&gate).await?;
    ensure!(gate.count("SELECT count(*) FROM evidence WHERE kind = 'epoch.closed'").await? >= 1);
    let (output, ok) = gate.cli(&["audits", "prove", "--json"]).await?;
    let proofs: Vec<Value> = serde_json::from_str(&output)?;
    ensure!(ok && proofs.iter().all(|proof| proof["found"] == "proved"), "{output}");
    let draws: u64 = proofs.iter().filter_map(|proof| proof["draws"].as_u64()).sum();
    ensure!(draws == ACTIONS as u64, "{output}");

    // A look-back audits what no draw has selected.
    let look_back = "INSERT INTO audits (id, action, group_name, reason, state)
                     SELECT gen_random_uuid(), action, 'auditors', 'look_back', 'open' FROM sampling
                     WHERE NOT selected ORDER BY action LIMIT 1 RETURNING 1";
    changes(&gate, look_back).await?;
    let (output, ok) = gate.cli(&["audits", "prove"]).await?;
    ensure!(ok && output.contains("proved"), "{output}");
    gate.close().await
}

/// Somebody with database access exempts an action from its audit, each time in another way.
#[tokio::test]
async fn no_action_escapes_its_draw_unseen() -> anyhow::Result<()> {
    let config = short_epochs()?;
    let mut gate = Gate::configured(config.path()).await?;
    executed(&gate).await?;
    epochs_close(&gate).await?;
    // It would draw again.
    gate.system.kill("sampler")?;
    let (output, ok) = gate.cli(&["audits", "prove"]).await?;
    ensure!(ok && output.contains("proved"), "{output}");

    let spared = "(SELECT action FROM sampling WHERE NOT selected ORDER BY action LIMIT 1)";
    let update = |set: &str| format!("UPDATE sampling SET {set} WHERE action = {spared} RETURNING 1");
    let tampering = [
        (update("selected = true"), "wrong"),
        (update("pi = pi / 50, wanted = wanted / 50"), "wrong"),
        (update("executed = false, pi = 0, wanted = 0"), "wrong"),
        (format!("DELETE FROM sampling WHERE action = {spared} RETURNING 1"), "undrawn"),
    ];
    for (tampering, standing) in tampering {
        changes(&gate, "CREATE TABLE sampling_before AS SELECT * FROM sampling").await?;
        changes(&gate, &tampering).await?;
        let (output, ok) = gate.cli(&["audits", "prove", "--json"]).await?;
        let proofs: Vec<Value> = serde_json::from_str(&output)?;
        let found = proofs.iter().filter(|proof| proof["found"] == standing).count();
        ensure!(!ok && found == 1, "{tampering}: {output}");
        changes(&gate, "DELETE FROM sampling").await?;
        changes(&gate, "INSERT INTO sampling SELECT * FROM sampling_before").await?;
        changes(&gate, "DROP TABLE sampling_before").await?;
    }
    gate.close().await
}

#[tokio::test]
async fn no_draw_is_made_in_an_epoch_whose_key_is_known() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    // As if the clock had been set back.
    let known = "WITH known AS (INSERT INTO epochs (epoch, commitment, ends_at)
                   SELECT floor(extract(epoch FROM now()) / 86400)::bigint + day, sha256('key'), now()
                   FROM generate_series(0, 2) day RETURNING epoch)
                 INSERT INTO epoch_keys (epoch, key) SELECT epoch, sha256('') FROM known";
    changes(&gate, known).await?;
    executed(&gate).await?;
    let open = "SELECT count(*) FROM sampling WHERE epoch > (SELECT max(epoch) FROM epoch_keys)";
    ensure!(gate.count(open).await? == ACTIONS as i64);
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
        let received = feedback.next::<Value>(countersign_tests::LIMIT).await?.context("no feedback came")?;
        // From inclusion probabilities an agent would learn when it is watched less.
        ensure!(received.data.get("pi").is_none(), "{}", received.data);
        Ok(serde_json::from_value(received.data)?)
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
    ensure!(received.kind == FeedbackKind::Correction, "{received:?}");
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
    ensure!(ok && output.contains("ALL THAT WAS EXECUTED") && output.contains("(95 %)"), "{output}");
    let (output, ok) = gate.cli(&["report", "--at-most"]).await?;
    let sentence = format!("{ACTIONS} actions accepted from");
    ensure!(ok && output.contains(&sentence) && output.contains("at every moment at once"), "{output}");
    gate.close().await
}
