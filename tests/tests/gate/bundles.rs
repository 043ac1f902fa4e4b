//! Bundles: what one action's evidence proves to somebody who has only the ledger's public key.

use std::{path::Path, process::Command};

use anyhow::{Context as _, ensure};
use countersign_core::message::{Decision, DecisionData, Finding, FindingData};
use countersign_testkit::{
    clients::{Agent, AuditorApp, decision, finding},
    system::binary,
};
use countersign_tests::{
    Gate, airline, answer,
    evidence::{recorded, verify},
    folder, run, willing,
};
use serde_json::{Value, json};

/// A configuration that audits every action executed without approval.
fn all_audited() -> anyhow::Result<tempfile::TempDir> {
    let policy = |rate: &str| format!("\"pay\"]\n    verdict: allow\n    audit: {{rate: {rate},");
    folder(&policy("0.1"), &policy("1.0"))
}

/// Writes an action's bundle, and checks it without database and broker.
async fn proved(gate: &Gate, dir: &Path, action: &str) -> anyhow::Result<(Value, Value)> {
    let (bundle, ok) = gate.cli(&["ledger", "prove", action]).await?;
    ensure!(ok, "{bundle}");
    let file = dir.join(format!("{}.json", action.replace(['/', '#'], "-")));
    std::fs::write(&file, &bundle)?;
    let (checked, ok) = check(gate, &file).await?;
    ensure!(ok, "{checked}\n{bundle}");
    Ok((serde_json::from_str(&bundle)?, serde_json::from_str(&checked)?))
}

async fn check(gate: &Gate, file: &Path) -> anyhow::Result<(String, bool)> {
    let mut command = Command::new(binary()?);
    command
        .env_clear()
        .args(["ledger", "check", "--json"])
        .arg(file)
        .arg("--key")
        .arg(gate.system.ledger_key());
    run(command).await
}

/// An action that is approved, one that is rejected, one that is edited and one that is audited, all of them recorded.
async fn four_actions(gate: &Gate) -> anyhow::Result<()> {
    let _auditor = gate
        // The others may be drawn as well: a finding about them would be one more signature in their bundles.
        .auditor("ada", |request| {
            let asked = request.action.id == "audited";
            asked.then(|| finding(request, Finding::Wrong, Some("another one was meant")))
        })
        .await?;
    let mut agent = gate.agent("one").await?;
    let (mut requests, sam) = (gate.requests("sam", "approvers").await?, gate.reviewer("sam").await?);
    agent.propose("approved", "move_money", json!({"amount": "500"})).await?;
    sam.decides(&requests.next().await?, Decision::Approve, None).await?;
    answer(&mut agent).await?;
    agent.propose("rejected", "move_money", json!({"amount": "900"})).await?;
    sam.decides(&requests.next().await?, Decision::Reject, Some("she never asked for it")).await?;
    answer(&mut agent).await?;
    // Mara owns the first agent, so she may decide only about the second.
    let mut second = gate.agent("two").await?;
    second.propose("edited", "move_money", json!({"amount": "700"})).await?;
    let arguments = Some(json!({"amount": "300"}));
    let edit = DecisionData { arguments, ..decision(&requests.next().await?, Decision::Edit, None) };
    sam.submit(&[edit]).await?;
    gate.reviewer("mara").await?.decides(&requests.next().await?, Decision::Approve, None).await?;
    answer(&mut second).await?;
    agent.propose("audited", "write_record", json!({"n": 1})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", 1).await?;
    gate.reaches("SELECT count(*) FROM sampling", 3).await?;
    recorded(gate).await
}

#[tokio::test]
async fn bundles_of_approved_rejected_and_audited_actions_verify_offline() -> anyhow::Result<()> {
    let config = all_audited()?;
    let gate = Gate::configured(config.path()).await?;
    four_actions(&gate).await?;

    let dir = tempfile::tempdir()?;
    let (bundle, checked) = proved(&gate, dir.path(), "approved").await?;
    ensure!(checked["state"] == "succeeded" && checked["signatures"] == 1, "{checked}");
    ensure!(checked["sampling"] == "committed", "{checked}");
    ensure!(bundle["policies"][0].as_str().is_some_and(|policy| policy.contains("id: large")));
    ensure!(bundle["contents"][0]["content"]["arguments"] == json!({"amount": "500"}), "{bundle}");
    let judged = &bundle["entries"][0]["entry"];
    ensure!(judged["policy"]["rule"] == "large" && judged["agent"]["model"] == "gpt-4o", "{judged}");
    ensure!(judged["action"]["tool"] == "move_money" && judged["action"]["reversible"] == false, "{judged}");
    let (bundle, checked) = proved(&gate, dir.path(), "rejected").await?;
    ensure!(checked["state"] == "rejected" && checked["signatures"] == 1, "{checked}");
    ensure!(!bundle["entries"].to_string().contains("never asked"), "free text is in the ledger");
    let (bundle, checked) = proved(&gate, dir.path(), "edited").await?;
    ensure!(checked["state"] == "succeeded" && checked["signatures"] == 2, "{checked}");
    ensure!(bundle["contents"][0]["content"]["arguments"] == json!({"amount": "300"}), "{bundle}");
    ensure!(bundle["results"][0]["text"].as_str().is_some_and(|text| text.contains("300")), "{bundle}");
    let (output, ok) = verify(&gate, &[]).await?;
    ensure!(ok, "{output}");
    let (_, checked) = proved(&gate, dir.path(), "audited").await?;
    let kinds: Vec<&str> =
        checked["entries"].as_array().into_iter().flatten().filter_map(|one| one[1].as_str()).collect();
    ensure!(
        kinds[..4] == ["action.evaluated", "action.claimed", "action.completed", "action.sampled"]
            && ["audit.settled", "finding.recorded", "remediation.opened"]
                .iter()
                .all(|kind| kinds.contains(kind)),
        "{kinds:?}"
    );
    ensure!(checked["signatures"] == 1, "{checked}");

    // An altered bundle, and one checked with another ledger's key.
    let file = dir.path().join("approved.json");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replacen("\"500\"", "\"5000\"", 1))?;
    let (output, ok) = check(&gate, &file).await?;
    ensure!(!ok && output.contains("contents: the content with digest"), "{output}");

    // The newest checkpoint extends one that was kept.
    let kept = dir.path().join("kept");
    std::fs::copy(gate.system.ledger().join("checkpoint"), &kept)?;
    let mut agent = gate.agent("one").await?;
    agent.propose("more", "write_record", json!({"n": 2})).await?;
    answer(&mut agent).await?;
    recorded(&gate).await?;
    let (proof, ok) = gate.cli(&["ledger", "continuity", &kept.display().to_string()]).await?;
    ensure!(ok, "{proof}");
    std::fs::write(&file, &proof)?;
    let (output, ok) = check(&gate, &file).await?;
    ensure!(ok && output.contains("\"old\""), "{output}");
    gate.close().await
}

#[tokio::test]
async fn erased_content_is_gone_proofs_stay_valid_and_a_legal_hold_prevents_erasure() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let (mut requests, sam) = (gate.requests("sam", "approvers").await?, gate.reviewer("sam").await?);
    let mia = json!({"amount": "500", "to": "mia_li_3668"});
    agent.propose("hers", "move_money", mia.clone()).await?;
    let request = requests.next().await?;
    let erase = ["erase", "--subject", "mia_li_3668", "--operator", "olga"];
    let (output, ok) = gate.cli(&erase).await?;
    ensure!(!ok && output.contains("has not ended yet"), "{output}");
    sam.decides(&request, Decision::Reject, Some("Mia asked for nothing")).await?;
    answer(&mut agent).await?;
    agent.propose("other", "move_money", json!({"amount": "5", "to": "mia_li_36680"})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM sampling", 1).await?;

    let hold =
        ["legal-hold", "place", "--subject", "mia_li_3668", "--reason", "case 7", "--operator", "omar"];
    let (output, ok) = gate.cli(&hold).await?;
    ensure!(ok, "{output}");
    let (output, ok) = gate.cli(&erase).await?;
    ensure!(!ok && output.contains("legal holds forbid it: [1]"), "{output}");
    // Nor by another value in her action; nor in spite of a hold on the action.
    let by_amount = ["erase", "--subject", "500", "--operator", "olga"];
    let (output, ok) = gate.cli(&by_amount).await?;
    ensure!(!ok && output.contains("legal holds forbid it: [1]"), "{output}");
    let client = gate.system.store()?.client().await?;
    let id: String =
        client.query_one("SELECT id::text FROM actions WHERE event_id = 'hers'", &[]).await?.get(0);
    let hold = ["legal-hold", "place", "--action", &id, "--reason", "case 8", "--operator", "omar"];
    let (output, ok) = gate.cli(&hold).await?;
    ensure!(ok, "{output}");
    let (output, ok) = gate.cli(&erase).await?;
    ensure!(!ok && output.contains("legal holds forbid it: [1, 2]"), "{output}");
    let (output, ok) = gate.cli(&["legal-hold", "release", "2", "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    let (output, ok) = gate.cli(&["legal-hold", "release", "1", "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    let (output, ok) = gate.cli(&erase).await?;
    ensure!(ok && output.contains("erased of 1 actions"), "{output}");
    // Immediately: `prove` waits for the entry about the erasure.
    let dir = tempfile::tempdir()?;
    let (bundle, checked) = proved(&gate, dir.path(), "hers").await?;

    recorded(&gate).await?;
    let (output, ok) = verify(&gate, &[]).await?;
    ensure!(ok, "{output}");
    for table in ["payloads", "outcomes", "decisions", "statements", "evidence", "legal_holds", "erasures"] {
        let sql = format!(
            "SELECT count(*) FROM {table} t WHERE t::text LIKE '%mia_li_3668\"%' OR t::text LIKE '%Mia asked%'
               OR t::text LIKE '%' || substr(encode('mia_li_3668\"', 'hex'), 1) || '%'"
        );
        ensure!(gate.count(&sql).await? == 0, "{table} still has it");
    }
    ensure!(
        bundle["contents"] == json!([]) && bundle["statements"][0]["disclosures"] == json!([]),
        "{bundle}"
    );
    let erased = checked["erased"][0].as_str().context("it says what was erased")?;
    ensure!(erased.starts_with("content, disclosure, reason, result on "), "{erased}");
    let (bundle, _) = proved(&gate, dir.path(), "other").await?;
    ensure!(bundle["contents"][0]["content"]["arguments"]["to"] == "mia_li_36680", "{bundle}");
    gate.close().await
}

/// Erasure removes what a statement disclosed about either action.
#[tokio::test]
async fn a_legal_hold_on_a_person_covers_everyone_in_the_same_statement() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let (mut requests, sam) = (gate.requests("sam", "approvers").await?, gate.reviewer("sam").await?);
    for (id, to) in [("hers", "mia_li_3668"), ("his", "omar_rossi_1241")] {
        agent.propose(id, "move_money", json!({"amount": "500", "to": to})).await?;
    }
    let asked = [requests.next().await?, requests.next().await?];
    let both = asked.each_ref().map(|one| decision(one, Decision::Reject, Some("they know each other")));
    sam.submit(&both).await?;
    for _ in &asked {
        answer(&mut agent).await?;
    }
    let hold =
        ["legal-hold", "place", "--subject", "omar_rossi_1241", "--reason", "case 7", "--operator", "omar"];
    let (output, ok) = gate.cli(&hold).await?;
    ensure!(ok, "{output}");
    let erase = ["erase", "--subject", "mia_li_3668", "--operator", "olga"];
    let (output, ok) = gate.cli(&erase).await?;
    ensure!(!ok && output.contains("legal holds forbid it: [1]"), "{output}");
    let (output, ok) = gate.cli(&["legal-hold", "release", "1", "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    let (output, ok) = gate.cli(&erase).await?;
    ensure!(ok && output.contains("erased of 2 actions"), "{output}");
    // His own content remains.
    ensure!(gate.count("SELECT count(*) FROM payloads WHERE content IS NOT NULL").await? == 1, "{output}");
    gate.close().await
}

/// One cancellation is approved, another rejected, and bags that nobody ordered are compensated.
#[tokio::test]
async fn bundles_of_airline_actions_verify_offline_including_compensations() -> anyhow::Result<()> {
    let gate = Gate::configured_acting(airline()?, willing).await?;
    let (agent_id, desk) = ("airline-assistant", "supervisors");
    let mut agent = Agent::connect(gate.system.url("agent-airline")?, agent_id).await?;
    let (mut requests, sam) = (gate.requests("sam", desk).await?, gate.reviewer("sam").await?);
    let corrected = json!({"arguments": {"reservation_id": "ABC123", "total_baggages": 1, "nonfree_baggages": 0,
        "payment_id": "credit_card_1234"}});
    let correction = corrected.clone();
    let url = gate.system.url("auditor-ada")?;
    let _auditor =
        AuditorApp::start(url, gate.system.signer("ada", "ada")?, "service-audit", move |request| {
            let wrong = FindingData {
                reason_code: Some("not_asked_for".into()),
                correction: Some(correction.clone()),
                compensate: true,
                ..finding(request, Finding::Wrong, Some("one bag is enough"))
            };
            (request.action.id == "bags").then_some(wrong)
        })
        .await?;
    agent.propose("kept", "cancel_reservation", json!({"reservation_id": "ABC123"})).await?;
    sam.decides(&requests.next().await?, Decision::Reject, Some("it is not refundable")).await?;
    answer(&mut agent).await?;
    agent.propose("cancelled", "cancel_reservation", json!({"reservation_id": "XYZ789"})).await?;
    sam.decides(&requests.next().await?, Decision::Approve, None).await?;
    answer(&mut agent).await?;
    let mut bags = corrected["arguments"].clone();
    bags["total_baggages"] = 4.into();
    agent.propose("bags", "update_reservation_baggages", bags).await?;
    answer(&mut agent).await?;
    let undo = requests.next().await?;
    ensure!(undo.action.tool == "restore_reservation", "{undo:?}");
    sam.decides(&undo, Decision::Approve, None).await?;
    let undone = answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'action.compensated'", 1).await?;
    gate.reaches("SELECT count(*) FROM sampling", 3).await?;
    recorded(&gate).await?;

    let dir = tempfile::tempdir()?;
    let reviewed = |bundle: &Value, kind: &str| {
        let entries = bundle["entries"].as_array().into_iter().flatten();
        entries.map(|one| one["entry"].clone()).find(|entry| entry["type"] == kind).unwrap_or_default()
    };
    let (bundle, checked) = proved(&gate, dir.path(), "cancelled").await?;
    ensure!(checked["state"] == "succeeded" && checked["signatures"] == 1, "{checked}");
    let review = &reviewed(&bundle, "decision.recorded")["review"];
    ensure!(review["groups"] == json!([desk]) && review["opened_at"].is_string(), "{review}");
    let (_, checked) = proved(&gate, dir.path(), "kept").await?;
    ensure!(checked["state"] == "rejected" && checked["signatures"] == 1, "{checked}");
    let (bundle, checked) = proved(&gate, dir.path(), "bags").await?;
    let kinds = checked["entries"].to_string();
    ensure!(
        ["finding.recorded", "audit.settled", "compensation.requested", "action.compensated"]
            .iter()
            .all(|kind| kinds.contains(kind)),
        "{kinds}"
    );
    let review = &reviewed(&bundle, "finding.recorded")["review"];
    ensure!(review["groups"] == json!(["service-audit"]) && review["opened_at"].is_string(), "{review}");
    ensure!(review["correction_digest"].is_string() && review["reason_code"] == "not_asked_for", "{review}");
    let (action, of) = (bundle["action"].clone(), format!("{}#{}", undone.action.source, undone.action.id));
    let (bundle, checked) = proved(&gate, dir.path(), &of).await?;
    ensure!(checked["state"] == "succeeded" && checked["signatures"] == 1, "{checked}");
    ensure!(reviewed(&bundle, "action.completed")["execution"]["compensates"] == action, "{bundle}");
    gate.close().await
}
