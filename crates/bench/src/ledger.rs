//! The ledger when it is large: how long recording, verifying, proving and exporting take, and how much memory.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::ensure;
use countersign_testkit::{system::System, wait::eventually};
use serde::Serialize;

use super::usage;

/// The age, in seconds, of the oldest evidence that is not recorded yet.
pub(super) async fn lag(system: &System) -> anyhow::Result<f64> {
    let tx = system.store()?.transaction().await?;
    let sql = "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(e.occurred_at)), 0)::float8
               FROM evidence_pending p JOIN evidence e ON e.id = p.first";
    Ok(tx.query_one(sql, &[]).await?.get(0))
}

/// Rows that one statement adds.
const STEP: i64 = 25_000;

/// Entries with bodies of 600 bytes, longer than most.
const FILL: &str = "WITH filled AS (
      INSERT INTO evidence (event, kind, body)
      SELECT gen_random_uuid(), 'bench.filled', json_build_object('n', n, 'filler', repeat('x', 600))
      FROM generate_series(1, $1::bigint) n RETURNING id)
    INSERT INTO evidence_pending
    SELECT min(id), array_agg(id ORDER BY id) FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / 500 AS note FROM filled) notes
    GROUP BY note";

async fn size(system: &System) -> anyhow::Result<i64> {
    let tx = system.store()?.transaction().await?;
    Ok(tx.query_one("SELECT size FROM recorder", &[]).await?.get(0))
}

/// A command on a large ledger, with its seconds and its peak resident memory in MiB.
#[derive(Serialize)]
pub(super) struct Timed {
    pub(super) what: String,
    pub(super) seconds: f64,
    pub(super) peak: f64,
}

pub(super) async fn measure(system: &System, entries: u64) -> anyhow::Result<Vec<Timed>> {
    let (wanted, before) = (i64::try_from(entries)?, size(system).await?);
    let mut left = wanted - before;
    while left > 0 {
        let tx = system.store()?.transaction().await?;
        tx.execute(FILL, &[&left.min(STEP)]).await?;
        tx.commit().await?;
        left -= STEP;
    }
    let (started, from) = (Instant::now(), size(system).await?);
    let checkpoint = system.ledger().join("checkpoint");
    eventually("everything is recorded, and in the folder", Duration::from_secs(3_600), async || {
        let note = fs::read_to_string(&checkpoint).ok()?;
        let written: i64 = note.lines().nth(1)?.parse().ok()?;
        (size(system).await.ok()? >= wanted && written >= wanted).then_some(())
    })
    .await?;
    let seconds = started.elapsed().as_secs_f64();
    // The ledger may have had more entries than requested before this began.
    let all = size(system).await?;
    let what = format!("record {} of {all} entries, tiles and checkpoints included", all - from);
    let mut all = vec![Timed { what, seconds, peak: memory_of(system, "recorder") }];
    let key = system.ledger_key().display().to_string();
    let scratch = system.place.scratch.join("bench");
    fs::create_dir_all(&scratch)?;
    let file = |name: &str| scratch.join(name).display().to_string();
    let (bundle, events, table) = (scratch.join("bundle"), file("events"), file("table"));
    let null = Path::new("/dev/null");
    let mut run = |name: &str, arguments: &[&str], out: &Path| {
        all.push(timed(system, name, arguments, out)?);
        anyhow::Ok(())
    };
    run("verify", &["ledger", "verify", "--key", &key], null)?;
    run("prove", &["ledger", "prove", &an_action(system).await?], &bundle)?;
    run("check", &["ledger", "check", &bundle.display().to_string(), "--key", &key], null)?;
    for (format, out) in [("cloudevents", &events), ("csv", &table)] {
        let export = ["export", "evidence", "--from", "7days", "--format", format, "--out", out];
        run(&format!("export {format}"), &export, null)?;
    }
    Ok(all)
}

/// The id of an action that has entries.
async fn an_action(system: &System) -> anyhow::Result<String> {
    let tx = system.store()?.transaction().await?;
    let sql = "SELECT action::text FROM ledger WHERE action IS NOT NULL ORDER BY index LIMIT 1";
    Ok(tx.query_one(sql, &[]).await?.get(0))
}

fn memory_of(system: &System, role: &str) -> f64 {
    usage::snapshot(&system.place.scratch).get(role).map_or(f64::NAN, |usage| usage.peak)
}

/// Runs the command line to its end.
fn timed(system: &System, name: &str, arguments: &[&str], out: &Path) -> anyhow::Result<Timed> {
    eprintln!("ledger: {name} ...");
    let mut command: Command = system.command();
    let out = fs::OpenOptions::new().write(true).create(true).truncate(true).open(out)?;
    let started = Instant::now();
    let mut child = command.args(arguments).stdout(Stdio::from(out)).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0_u64;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        peak = peak.max(kilobytes.unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    };
    ensure!(ended.success(), "countersign {} failed", arguments.join(" "));
    let (seconds, peak) = (started.elapsed().as_secs_f64(), peak as f64 / 1_024.0);
    Ok(Timed { what: name.into(), seconds, peak })
}
