//! The ledger: one log whichever recorder writes it, in which every change is detected.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use countersign_testkit::{clients::proposal, wait::eventually};
use countersign_tests::{
    Gate, LIMIT, answer,
    evidence::{recorded, verify, without_a_gap},
    folder,
};
use serde_json::{Value, json};

/// Changes the database as its owner. The statement begins with `WITH` or is wrapped in one, and changes one row.
async fn change(gate: &Gate, statement: &str) -> anyhow::Result<()> {
    let sql = format!("WITH changed AS ({statement} RETURNING 1) SELECT count(*) FROM changed");
    let changed = gate.count(&sql).await?;
    ensure!(changed == 1, "{statement} changed {changed} rows");
    Ok(())
}

/// Fails unless each entry of an action names the previous one, and the first names none.
async fn chained(gate: &Gate) -> anyhow::Result<()> {
    let torn = "SELECT count(*) FROM (
                  SELECT convert_from(entry, 'UTF8')::jsonb ->> 'previous' AS output,
                         lag(event) OVER (PARTITION BY action ORDER BY index)::text AS before
                  FROM ledger WHERE action IS NOT NULL) named
                WHERE output IS DISTINCT FROM before";
    ensure!(gate.count(torn).await? == 0, "an entry does not name the previous one");
    Ok(())
}

#[tokio::test]
async fn two_recorders_either_killed_at_any_moment_keep_one_log_and_one_stream() -> anyhow::Result<()> {
    const ROUNDS: usize = 6;
    const ACTIONS: usize = 150;
    // Small batches, so that one is drafted while another is appended.
    let config = folder("lease = \"2s\"", "lease = \"2s\"\nbatch_max = 64")?;
    let mut gate = Gate::configured(config.path()).await?;
    gate.system.start("recorder", "recorder-b")?;
    let mut agent = gate.agent("one").await?;
    // Left by a recorder that died while it wrote.
    let half = gate.system.ledger().join(".unfinished/half");
    std::fs::create_dir_all(half.parent().context("it has a folder")?)?;
    std::fs::write(&half, "half a tile")?;
    for round in 0..ROUNDS {
        let event = |n: usize| proposal("one", &format!("r-{round}-{n}"), "write_record", json!({"n": n}));
        agent.send(&(0..ACTIONS).map(event).collect::<Vec<_>>()).await?;
        let before = gate.count("SELECT size FROM recorder").await?;
        // Another moment each time: during a batch, while a tile is written, or before a message is confirmed.
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
            ensure!(started.elapsed() < Duration::from_secs(10), "the takeover took {:?}", started.elapsed());
        }
        gate.system.start("recorder", name)?;
        for _ in 0..ACTIONS {
            answer(&mut agent).await?;
        }
    }
    gate.reaches("SELECT count(*) FROM sampling", (ROUNDS * ACTIONS) as i64).await?;
    ensure!(!half.exists(), "the new recorder kept an unfinished file");
    recorded(&gate).await?;
    let size = gate.count("SELECT count(*) FROM ledger").await?;
    ensure!(size == gate.count("SELECT count(DISTINCT evidence) FROM ledger").await?);
    ensure!(size == gate.count("SELECT count(*) FROM evidence").await?);
    ensure!(size == gate.count("SELECT max(index) + 1 FROM ledger").await?);
    chained(&gate).await?;
    let (output, ok) = verify(&gate, &[]).await?;
    ensure!(ok && output.contains("as it was recorded"), "{output}");

    without_a_gap(&gate).await?;
    gate.close().await
}

/// Has 151 actions recorded and returns the checkpoint before the last of them.
async fn two_checkpoints(gate: &Gate, checkpoint: &Path) -> anyhow::Result<String> {
    let mut agent = gate.agent("one").await?;
    let event = |n: usize| proposal("one", &format!("r-{n}"), "write_record", json!({"n": n}));
    agent.send(&(0..150).map(event).collect::<Vec<_>>()).await?;
    for _ in 0..150 {
        answer(&mut agent).await?;
    }
    gate.reaches("SELECT count(*) FROM sampling", 150).await?;
    recorded(gate).await?;
    let before = std::fs::read_to_string(checkpoint)?;
    agent.propose("last", "write_record", json!({"n": 1})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM sampling", 151).await?;
    recorded(gate).await?;
    Ok(before)
}

/// Changes the static files one at a time and puts each back: a hash, and a byte of the first entry.
async fn changed_files_are_named(
    gate: &Gate,
    named: &impl AsyncFn(i64, &str, &[&str]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for (file, at, entry, what) in
        [("tile/0/000", 77 * 32, 77, "another hash"), ("tile/entries/000", 9, 0, "other bytes")]
    {
        let file = gate.system.ledger().join(file);
        let bytes = std::fs::read(&file)?;
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(&file, changed)?;
        named(entry, what, &[]).await?;
        std::fs::write(&file, bytes)?;
    }
    Ok(())
}

#[tokio::test]
async fn an_entry_changed_by_hand_is_named_by_verify_whatever_else_is_changed_with_it() -> anyhow::Result<()>
{
    let mut gate = Gate::start().await?;
    let checkpoint = gate.system.ledger().join("checkpoint");
    let (old, kept) = (two_checkpoints(&gate, &checkpoint).await?, tempfile::NamedTempFile::new()?);
    let name = kept.path().display().to_string();
    let (output, ok) = verify(&gate, &[]).await?;
    ensure!(ok, "{output}");
    // A running recorder restores a checkpoint that a former leader or a person has rolled back.
    let size = |note: &str| note.lines().nth(1).and_then(|size| size.parse::<u64>().ok());
    let newest = size(&std::fs::read_to_string(&checkpoint)?);
    std::fs::write(&checkpoint, &old)?;
    eventually("the checkpoint is restored", LIMIT, async || {
        let note = std::fs::read_to_string(&checkpoint).ok()?;
        (size(&note) >= newest).then_some(())
    })
    .await?;
    // From here on no recorder runs that would notice the changes.
    gate.system.kill("recorder")?;

    let named = async |entry: i64, what: &str, more: &[&str]| {
        let (output, ok) = verify(&gate, &[more, &["--json"]].concat()).await?;
        let found: Value = serde_json::from_str(&output).with_context(|| output.clone())?;
        let wrong = &found["wrong"];
        let matches = wrong["what"].as_str().is_some_and(|text| text.contains(what));
        ensure!(!ok && wrong["entry"] == entry && matches, "{what} at {entry}: {output}");
        Ok(())
    };
    changed_files_are_named(&gate, &named).await?;
    // More executions than entries about them.
    change(&gate, "UPDATE actions SET fence = fence + 1 WHERE event_id = 'r-3'").await?;
    let (output, ok) = verify(&gate, &[]).await?;
    ensure!(!ok && output.contains("differ in the executions of action"), "{output}");
    change(&gate, "UPDATE actions SET fence = fence - 1 WHERE event_id = 'r-3'").await?;
    ensure!(verify(&gate, &[]).await?.1);

    // The entry's bytes.
    change(&gate, "UPDATE ledger SET entry = replace(convert_from(entry, 'UTF8'), '/agents/one', '/agents/two')::bytea WHERE index = 77").await?;
    named(77, "it was changed", &[]).await?;
    // And the entry's hash.
    change(&gate, "UPDATE ledger SET leaf = sha256('\\x00'::bytea || entry) WHERE index = 77").await?;
    named(77, "another hash", &[]).await?;
    // Without the folder, the signature narrows it down to one batch.
    let store = gate.system.store()?;
    let signed: i64 = {
        let tx = store.transaction().await?;
        tx.query_one("SELECT coalesce(max(size), 0) FROM checkpoints WHERE size <= 77", &[]).await?.get(0)
    };
    let key = gate.system.ledger_key().display().to_string();
    let mut command = gate.system.command();
    command.args(["ledger", "verify", "--json", "--key", &key]).env_remove("COUNTERSIGN_LEDGER");
    let (output, ok) = countersign_tests::run(command).await?;
    let found: Value = serde_json::from_str(&output).with_context(|| output.clone())?;
    let first = found["wrong"]["entry"].as_i64().context("an entry is named")?;
    ensure!(!ok && (signed..=77).contains(&first), "{output}");
    change(&gate, "UPDATE ledger SET entry = replace(convert_from(entry, 'UTF8'), '/agents/two', '/agents/one')::bytea WHERE index = 77").await?;
    change(&gate, "UPDATE ledger SET leaf = sha256('\\x00'::bytea || entry) WHERE index = 77").await?;
    ensure!(verify(&gate, &[]).await?.1);

    // The evidence of an entry, and evidence without an entry.
    change(&gate, "UPDATE evidence SET body = '{}' WHERE id = (SELECT evidence FROM ledger WHERE index = 9)")
        .await?;
    named(9, "evidence was changed", &[]).await?;

    // A deleted entry, which now comes first.
    change(&gate, "DELETE FROM ledger WHERE index = 5").await?;
    named(5, "missing", &[]).await?;

    // An old checkpoint restored, compared with a newer one that was kept.
    std::fs::copy(&checkpoint, kept.path())?;
    std::fs::write(&checkpoint, &old)?;
    let size: i64 = old.lines().nth(1).context("a size")?.parse()?;
    named(size, "put back", &["--known", &name]).await?;
    // And an unsigned one.
    std::fs::write(&checkpoint, old.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size - 1), 1))?;
    let (output, ok) = verify(&gate, &[]).await?;
    ensure!(!ok && output.contains("was changed after it was signed"), "{output}");
    gate.close().await
}

#[tokio::test]
async fn a_recorder_that_finds_another_history_published_exits_with_the_reason() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM sampling", 1).await?;
    recorded(&gate).await?;
    gate.system.kill("recorder")?;
    // As after restoring a backup that is older than the published checkpoint.
    let size = gate.count("SELECT size FROM recorder").await?;
    change(&gate, &format!("DELETE FROM checkpoints WHERE size = {size}")).await?;
    gate.system.start("recorder", "recorder")?;
    eventually("it ends", LIMIT, async || gate.system.process("recorder").ok()?.ended()).await?;
    let log = gate.system.log("recorder");
    ensure!(log.contains("that the database does not have"), "{log}");
    ensure!(gate.count("SELECT size FROM recorder").await? == size);
    gate.close().await
}

#[tokio::test]
async fn only_the_recorder_appends_and_nobody_changes_recorded_entries() -> anyhow::Result<()> {
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

/// Rows of one statement stay in one batch, even beyond the batch's limit. The rest comes in full batches, without a pause
/// while more is pending.
#[tokio::test]
async fn a_batch_keeps_statements_whole_and_respects_its_limit() -> anyhow::Result<()> {
    let config = folder("lease = \"2s\"", "lease = \"2s\"\nbatch_max = 100")?;
    let gate = Gate::configured(config.path()).await?;
    recorded(&gate).await?;
    let before = gate.count("SELECT size FROM recorder").await?;
    let notes = "WITH filled AS (
                   INSERT INTO evidence (event, kind, body)
                   SELECT gen_random_uuid(), 'test.filled', json_build_object('n', n) FROM generate_series(1, 400) n
                   RETURNING id),
                 numbered AS (SELECT id, row_number() OVER (ORDER BY id) AS n FROM filled),
                 noted AS (
                   INSERT INTO evidence_pending SELECT min(id), array_agg(id ORDER BY id) FROM numbered
                   GROUP BY CASE WHEN n <= 250 THEN 0 ELSE n END RETURNING 1)
                 SELECT count(*) FROM noted";
    ensure!(gate.count(notes).await? == 151);
    recorded(&gate).await?;
    let sizes = [before + 250, before + 350, before + 400];
    let found = format!("SELECT count(*) FROM checkpoints WHERE size > {before}");
    ensure!(gate.count(&found).await? == 3);
    for size in sizes {
        let found = format!("SELECT count(*) FROM checkpoints WHERE size = {size}");
        ensure!(gate.count(&found).await? == 1, "no batch ended with {size} entries");
    }
    let back = "SELECT count(*) FROM (SELECT evidence < lag(evidence) OVER (ORDER BY index) AS back FROM ledger) l WHERE back";
    ensure!(gate.count(back).await? == 0, "the lowest ids come first");
    gate.close().await
}

/// A recorder keeps its lease while it drafts; two recorders taking it from each other would make no progress.
#[tokio::test]
async fn a_slow_draft_does_not_cost_the_lease() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    recorded(&gate).await?;
    let fence = gate.count("SELECT fence FROM recorder").await?;
    gate.system.start("recorder", "recorder-b")?;
    let slow = gate.system.store()?.transaction().await?;
    slow.batch_execute("LOCK TABLE evidence_pending IN ACCESS EXCLUSIVE MODE").await?;
    // Three times the tests' lease.
    let until = "SELECT extract(epoch FROM until)::bigint FROM recorder";
    gate.reaches(until, gate.count(until).await? + 6).await?;
    drop(slow);
    ensure!(gate.count("SELECT fence FROM recorder").await? == fence, "the lease changed hands");
    let mut agent = gate.agent("one").await?;
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    answer(&mut agent).await?;
    recorded(&gate).await?;
    gate.close().await
}

/// An export ends before entries that are still being appended, so the next export contains them.
#[tokio::test]
async fn consecutive_exports_leave_no_gap() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let dir = tempfile::tempdir()?;
    let export = async |from: &str, name: &str| {
        let file = dir.path().join(name).display().to_string();
        let (output, ok) = gate.cli(&["export", "evidence", "--from", from, "--out", &file]).await?;
        ensure!(ok, "{output}");
        let manifest = std::fs::read_to_string(file + ".manifest.json")?;
        Ok(serde_json::from_str::<Value>(&manifest)?)
    };
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM sampling", 1).await?;
    recorded(&gate).await?;
    let slow = gate.system.store()?.transaction().await?;
    slow.batch_execute("LOCK TABLE ledger IN SHARE MODE").await?;
    agent.propose("a-2", "write_record", json!({"n": 2})).await?;
    answer(&mut agent).await?;
    let appends = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name = 'countersign-recorder' AND wait_event_type = 'Lock'";
    gate.reaches(appends, 1).await?;
    let first = export("1h", "first").await?;
    drop(slow);
    recorded(&gate).await?;
    let second = export(first["to"].as_str().context("where it ends")?, "second").await?;
    let (last, next) = (first["last"].as_i64(), second["first"].as_i64());
    ensure!(last.is_some() && next == last.map(|last| last + 1), "{first}, then {second}");
    gate.reaches("SELECT count(*) FROM sampling", 2).await?;
    recorded(&gate).await?;
    // After an empty export, the next one begins at the same point.
    let nothing = export("0s", "nothing").await?;
    ensure!(nothing["count"] == 0 && nothing["to"] == nothing["from"], "{nothing}");
    gate.close().await
}
