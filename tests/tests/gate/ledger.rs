//! The ledger: one log whoever records it, and nothing in it can be changed unnoticed.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use countersign_broker::{
    reader::Reader,
    stream::{Offset, StreamReader},
};
use countersign_core::message::{Decision, DecisionData, Finding};
use countersign_testkit::{
    clients::{decision, finding, proposal},
    system::binary,
};
use countersign_tests::{
    Gate, answer,
    evidence::{recorded, streamed, without_a_gap},
    folder, said,
};
use serde_json::{Value, json};

/// Audits everything that is executed at once.
fn all_audited() -> anyhow::Result<tempfile::TempDir> {
    let policy = |rate: &str| format!("\"pay\"]\n    verdict: allow\n    audit: {{rate: {rate},");
    folder(&policy("0.1"), &policy("1.0"))
}

async fn verify(gate: &Gate, more: &[&str]) -> anyhow::Result<(String, bool)> {
    let key = gate.system.ledger_key().display().to_string();
    gate.cli(&[&["ledger", "verify", "--key", &key], more].concat()).await
}

/// Changes the database as its owner. The statement begins with `WITH` or is wrapped in one, and changes one row.
async fn change(gate: &Gate, statement: &str) -> anyhow::Result<()> {
    let sql = format!("WITH changed AS ({statement} RETURNING 1) SELECT count(*) FROM changed");
    let changed = gate.count(&sql).await?;
    ensure!(changed == 1, "{statement} changed {changed} rows");
    Ok(())
}

#[tokio::test]
async fn two_recorders_either_killed_at_any_moment_keep_one_log_and_one_stream() -> anyhow::Result<()> {
    const ROUNDS: usize = 6;
    const ACTIONS: usize = 150;
    let mut gate = Gate::start().await?;
    gate.system.start("recorder", "recorder-b")?;
    let mut agent = gate.agent("one").await?;
    for round in 0..ROUNDS {
        let event = |n: usize| proposal("one", &format!("r-{round}-{n}"), "write_record", json!({"n": n}));
        agent.send(&(0..ACTIONS).map(event).collect::<Vec<_>>()).await?;
        let before = gate.count("SELECT size FROM recorder").await?;
        // Another moment each time: while a batch is under way, a tile is written, or a message is not confirmed yet.
        let more = before + [1, 40, 150, 300, 5, 90][round % 6];
        gate.reaches("SELECT size FROM recorder", more).await?;
        let fence = gate.count("SELECT fence FROM recorder").await?;
        let name = if round % 2 == 0 { "recorder" } else { "recorder-b" };
        gate.system.kill(name)?;
        if round % 3 == 2 {
            // Both.
            let other = if round % 2 == 0 { "recorder-b" } else { "recorder" };
            gate.system.kill(other)?;
            gate.system.start("recorder", other)?;
            let started = std::time::Instant::now();
            gate.reaches("SELECT fence FROM recorder", fence + 1).await?;
            ensure!(started.elapsed() < Duration::from_secs(10), "taken over after {:?}", started.elapsed());
        }
        gate.system.start("recorder", name)?;
        for _ in 0..ACTIONS {
            answer(&mut agent).await?;
        }
    }
    gate.reaches("SELECT count(*) FROM sampling", (ROUNDS * ACTIONS) as i64).await?;
    recorded(&gate).await?;
    let size = gate.count("SELECT count(*) FROM ledger").await?;
    ensure!(size == gate.count("SELECT count(DISTINCT evidence) FROM ledger").await?);
    ensure!(size == gate.count("SELECT count(*) FROM evidence").await?);
    ensure!(size == gate.count("SELECT max(index) + 1 FROM ledger").await?);
    let (said, done) = verify(&gate, &[]).await?;
    ensure!(done && said.contains("as it was recorded"), "{said}");

    without_a_gap(&gate).await?;
    gate.close().await
}

#[tokio::test]
async fn a_stream_that_was_lost_is_filled_up_from_the_ledger() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut act = async |id: &str| {
        agent.propose(id, "write_record", json!({"n": 1})).await?;
        answer(&mut agent).await
    };
    act("a-1").await?;
    recorded(&gate).await?;
    let session = countersign_broker::session::Session::open(&gate.system.place.amqp_url, "delete").await?;
    let queue = "countersign.audit-stream";
    session.channel.queue_delete(queue.into(), lapin::options::QueueDeleteOptions::default()).await?;
    act("a-2").await?;
    let config = gate.system.config.display().to_string();
    let (said, done) = gate.cli(&["apply", &config, "--operator", "olga"]).await?;
    ensure!(done, "{said}");
    gate.system.kill("recorder")?;
    gate.system.start("recorder", "recorder")?;
    act("a-3").await?;
    recorded(&gate).await?;
    let size = gate.count("SELECT size FROM recorder").await?;
    let indexes = streamed(&gate, size as usize).await?;
    ensure!(indexes == (0..size as u64).collect::<Vec<_>>(), "{indexes:?}");
    gate.close().await
}

#[tokio::test]
async fn an_entry_changed_by_hand_is_named_by_verify_whatever_else_is_changed_with_it() -> anyhow::Result<()>
{
    let mut gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let event = |n: usize| proposal("one", &format!("r-{n}"), "write_record", json!({"n": n}));
    agent.send(&(0..150).map(event).collect::<Vec<_>>()).await?;
    for _ in 0..150 {
        answer(&mut agent).await?;
    }
    gate.reaches("SELECT count(*) FROM sampling", 150).await?;
    recorded(&gate).await?;
    let checkpoint = gate.system.ledger().join("checkpoint");
    let (old, kept) = (std::fs::read_to_string(&checkpoint)?, tempfile::NamedTempFile::new()?);
    let name = kept.path().display().to_string();
    agent.propose("last", "write_record", json!({"n": 1})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM sampling", 151).await?;
    recorded(&gate).await?;
    let (said, done) = verify(&gate, &[]).await?;
    ensure!(done, "{said}");
    // From here on nothing is recorded that would notice by itself.
    gate.system.kill("recorder")?;

    let named = async |entry: i64, what: &str, more: &[&str]| {
        let (said, done) = verify(&gate, &[more, &["--json"]].concat()).await?;
        let found: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        let wrong = &found["wrong"];
        let told = wrong["what"].as_str().is_some_and(|told| told.contains(what));
        ensure!(!done && wrong["entry"] == entry && told, "{what} at {entry}: {said}");
        Ok(())
    };
    // Its bytes.
    change(&gate, "UPDATE ledger SET entry = replace(convert_from(entry, 'UTF8'), '/agents/one', '/agents/two')::bytea WHERE index = 77").await?;
    named(77, "it was changed", &[]).await?;
    // And its hash.
    change(&gate, "UPDATE ledger SET leaf = sha256('\\x00'::bytea || entry) WHERE index = 77").await?;
    named(77, "another hash", &[]).await?;
    // Without the folder, the signature still tells that it is one of a batch.
    let store = gate.system.store()?;
    let signed: i64 = {
        let mut client = store.client().await?;
        let tx = client.transaction().await?;
        tx.query_one("SELECT coalesce(max(size), 0) FROM checkpoints WHERE size <= 77", &[]).await?.get(0)
    };
    let key = gate.system.ledger_key().display().to_string();
    let mut command = gate.system.command();
    command.args(["ledger", "verify", "--json", "--key", &key]).env_remove("COUNTERSIGN_LEDGER");
    let (told, done) = countersign_tests::said(command).await?;
    let found: Value = serde_json::from_str(&told).with_context(|| told.clone())?;
    let first = found["wrong"]["entry"].as_i64().context("an entry is named")?;
    ensure!(!done && (signed..=77).contains(&first), "{told}");
    change(&gate, "UPDATE ledger SET entry = replace(convert_from(entry, 'UTF8'), '/agents/two', '/agents/one')::bytea WHERE index = 77").await?;
    change(&gate, "UPDATE ledger SET leaf = sha256('\\x00'::bytea || entry) WHERE index = 77").await?;
    ensure!(verify(&gate, &[]).await?.1);

    // The evidence it was made of, and something that has no entry.
    change(&gate, "UPDATE evidence SET body = '{}' WHERE id = (SELECT evidence FROM ledger WHERE index = 9)")
        .await?;
    named(9, "evidence was changed", &[]).await?;

    // An entry taken out: it comes first now.
    change(&gate, "DELETE FROM ledger WHERE index = 5").await?;
    named(5, "missing", &[]).await?;

    // An old checkpoint put back beside one that was kept.
    std::fs::copy(&checkpoint, kept.path())?;
    std::fs::write(&checkpoint, &old)?;
    let size: i64 = old.lines().nth(1).context("a size")?.parse()?;
    named(size, "put back", &["--known", &name]).await?;
    // And one that nobody signed.
    std::fs::write(&checkpoint, old.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size - 1), 1))?;
    let (said, done) = verify(&gate, &[]).await?;
    ensure!(!done && said.contains("does not hold"), "{said}");
    gate.close().await
}

/// Writes an action's bundle, and checks it where there is neither database nor broker.
async fn proved(gate: &Gate, dir: &Path, action: &str) -> anyhow::Result<(Value, Value)> {
    let (bundle, done) = gate.cli(&["ledger", "prove", action]).await?;
    ensure!(done, "{bundle}");
    let file = dir.join(format!("{action}.json"));
    std::fs::write(&file, &bundle)?;
    let (checked, done) = check(gate, &file).await?;
    ensure!(done, "{checked}\n{bundle}");
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
    said(command).await
}

#[tokio::test]
async fn bundles_of_an_approved_a_rejected_and_an_audited_action_check_offline() -> anyhow::Result<()> {
    let config = all_audited()?;
    let gate = Gate::configured(config.path()).await?;
    let _auditor = gate
        // The others may be drawn as well: what is found of them would be one more signature in their bundles.
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
    // Mara owns the first agent, and so decides about the second's.
    let mut second = gate.agent("two").await?;
    second.propose("edited", "move_money", json!({"amount": "700"})).await?;
    let arguments = Some(json!({"amount": "300"}));
    let edit = DecisionData { arguments, ..decision(&requests.next().await?, Decision::Edit, None) };
    sam.says(&[edit]).await?;
    gate.reviewer("mara").await?.decides(&requests.next().await?, Decision::Approve, None).await?;
    answer(&mut second).await?;
    agent.propose("audited", "write_record", json!({"n": 1})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", 1).await?;
    gate.reaches("SELECT count(*) FROM sampling", 3).await?;
    recorded(&gate).await?;

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
    let (told, done) = verify(&gate, &[]).await?;
    ensure!(done, "{told}");
    let (_, checked) = proved(&gate, dir.path(), "audited").await?;
    let kinds: Vec<&str> =
        checked["entries"].as_array().into_iter().flatten().filter_map(|one| one[1].as_str()).collect();
    ensure!(
        kinds[..4] == ["action.judged", "action.claimed", "action.completed", "action.sampled"]
            && ["audit.judged", "finding.recorded", "remediation.opened"]
                .iter()
                .all(|kind| kinds.contains(kind)),
        "{kinds:?}"
    );
    ensure!(checked["signatures"] == 1, "{checked}");

    // One of them changed, and one with another ledger's key.
    let file = dir.path().join("approved.json");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replacen("\"500\"", "\"5000\"", 1))?;
    let (told, done) = check(&gate, &file).await?;
    ensure!(!done && told.contains("contents: the content with digest"), "{told}");

    // A checkpoint that was kept is continued by the newest.
    let kept = dir.path().join("kept");
    std::fs::copy(gate.system.ledger().join("checkpoint"), &kept)?;
    agent.propose("more", "write_record", json!({"n": 2})).await?;
    answer(&mut agent).await?;
    recorded(&gate).await?;
    let (proof, done) = gate.cli(&["ledger", "continuity", &kept.display().to_string()]).await?;
    ensure!(done, "{proof}");
    std::fs::write(&file, &proof)?;
    let (told, done) = check(&gate, &file).await?;
    ensure!(done && told.contains("\"old\""), "{told}");
    gate.close().await
}

#[tokio::test]
async fn what_is_erased_is_gone_the_proofs_hold_and_a_legal_hold_prevents_it() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let (mut requests, sam) = (gate.requests("sam", "approvers").await?, gate.reviewer("sam").await?);
    let mia = json!({"amount": "500", "to": "mia_li_3668"});
    agent.propose("hers", "move_money", mia.clone()).await?;
    let request = requests.next().await?;
    let url = gate.system.database_url("eraser")?;
    let erase = ["erase", "--subject", "mia_li_3668", "--operator", "olga", "--database-url", &url];
    let (told, done) = gate.cli(&erase).await?;
    ensure!(!done && told.contains("has not ended yet"), "{told}");
    sam.decides(&request, Decision::Reject, Some("Mia asked for nothing")).await?;
    answer(&mut agent).await?;
    agent.propose("other", "move_money", json!({"amount": "5", "to": "mia_li_36680"})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM sampling", 1).await?;

    let hold =
        ["legal-hold", "place", "--subject", "mia_li_3668", "--reason", "case 7", "--operator", "omar"];
    let (told, done) = gate.cli(&hold).await?;
    ensure!(done, "{told}");
    let (told, done) = gate.cli(&erase).await?;
    ensure!(!done && told.contains("legal holds forbid it: [1]"), "{told}");
    let (told, done) = gate.cli(&["legal-hold", "release", "1", "--operator", "olga"]).await?;
    ensure!(done, "{told}");
    let (told, done) = gate.cli(&erase).await?;
    ensure!(done && told.contains("erased of 1 actions"), "{told}");

    recorded(&gate).await?;
    let (told, done) = verify(&gate, &[]).await?;
    ensure!(done, "{told}");
    for table in ["payloads", "outcomes", "decisions", "statements", "evidence", "legal_holds", "erasures"] {
        let sql = format!(
            "SELECT count(*) FROM {table} t WHERE t::text LIKE '%mia_li_3668\"%' OR t::text LIKE '%Mia asked%'
               OR t::text LIKE '%' || substr(encode('mia_li_3668\"', 'hex'), 1) || '%'"
        );
        ensure!(gate.count(&sql).await? == 0, "{table} has it still");
    }
    let dir = tempfile::tempdir()?;
    let (bundle, checked) = proved(&gate, dir.path(), "hers").await?;
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

#[tokio::test]
async fn a_compliance_reader_reads_the_stream_and_nothing_else() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM sampling", 1).await?;
    recorded(&gate).await?;
    let size = gate.count("SELECT size FROM recorder").await?;
    let cora = gate.system.url("compliance-cora")?.to_owned();
    let tail = ["stream", "tail", "--from", "2", "--count", &(size - 2).to_string()];
    let (told, done) = gate.cli_as(&cora, &tail).await?;
    let events: Vec<Value> =
        told.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(|| told.clone())?;
    ensure!(done && events.len() as i64 == size - 2, "{told}");
    ensure!(
        events[0]["sequence"] == "0000000000000002" && events[0]["type"] == "countersign.evidence.v1",
        "{told}"
    );
    for queue in ["countersign.outcomes.one", "countersign.actions", "countersign.approvals.approvers"] {
        ensure!(Reader::open(&cora, "nosy", queue).await.is_err(), "{queue}");
    }
    let sent =
        countersign_broker::stream::Feed::connect(&cora, "forger").await?.publish(&[b"{}".to_vec()]).await;
    ensure!(sent.is_err(), "compliance may write to the stream");
    let read = StreamReader::open(gate.system.url("agent-one")?, "nosy", Offset::First).await;
    ensure!(read.is_err(), "an agent may read the stream");

    let dir = tempfile::tempdir()?;
    for (format, lines) in [("cloudevents", size), ("csv", size + 1)] {
        let file = dir.path().join(format).display().to_string();
        let export = ["export", "evidence", "--from", "1h", "--format", format, "--out", &file];
        let (told, done) = gate.cli(&export).await?;
        ensure!(done, "{told}");
        ensure!(std::fs::read_to_string(&file)?.lines().count() as i64 == lines, "{format}");
        let manifest: Value = serde_json::from_str(&std::fs::read_to_string(file + ".manifest.json")?)?;
        ensure!(
            manifest["count"] == size && manifest["first"] == 0 && manifest["last"] == size - 1,
            "{manifest}"
        );
        ensure!(manifest["checkpoint"].is_string() && manifest["digest"].is_string(), "{manifest}");
    }
    gate.close().await
}

#[tokio::test]
async fn nobody_but_the_recorder_appends_and_nobody_changes_what_is_recorded() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let refused = async |role: &str, sql: &str| -> anyhow::Result<()> {
        let url = gate.system.database_url(role)?;
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let error = client.batch_execute(sql).await.err();
        let code = error.as_ref().and_then(|error| error.code().map(|code| code.code().to_owned()));
        ensure!(code.as_deref() == Some("42501"), "{role} may {sql}: {error:?}");
        drop(client);
        Ok(connection.await??)
    };
    for role in ["router", "executor", "sampler", "operator", "recorder", "eraser"] {
        for table in ["ledger", "ledger_nodes", "checkpoints"] {
            if role != "recorder" {
                refused(role, &format!("INSERT INTO {table} SELECT * FROM {table}")).await?;
            }
            refused(
                role,
                &format!("UPDATE {table} SET index = 0")
                    .replace("checkpoints SET index", "checkpoints SET size"),
            )
            .await?;
            refused(role, &format!("DELETE FROM {table}")).await?;
            refused(role, &format!("TRUNCATE {table}")).await?;
        }
        if role != "recorder" {
            refused(role, "UPDATE recorder SET fence = fence + 1").await?;
            refused(role, "DELETE FROM evidence_pending").await?;
        }
    }
    refused("recorder", "INSERT INTO evidence (event, kind, body) SELECT event, kind, body FROM evidence")
        .await?;
    refused("recorder", "UPDATE evidence SET kind = ''").await?;
    refused("eraser", "UPDATE actions SET state = 'denied'").await?;
    refused("eraser", "UPDATE evidence SET body = '{}'").await?;
    refused("router", "UPDATE outcomes SET result = NULL").await?;
    gate.close().await
}
