//! `docs/recompute.py`: the report's rates computed again from exported evidence alone.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use countersign_core::message::{AuditRequest, Finding, FindingData};
use countersign_testkit::clients::{finding, proposal};
use countersign_tests::{Gate, evidence::recorded, folder, run};
use serde_json::{Value, json};

/// Records written before and after the moment at which a second report begins.
const EARLIER: u64 = 30;
const LATER: u64 = 20;
/// Payments that a reviewer approves.
const APPROVED: u64 = 8;
/// Records written while no sampler draws.
const UNDRAWN: u64 = 4;

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A gate that audits with several probabilities: the first of an agent always, then four of ten, and half of what was approved.
async fn gate() -> anyhow::Result<Gate> {
    let config = folder("version: \"test-1\"\n", "version: \"test-1\"\naudits: {first: 5}\n")?;
    let path = config.path().join("policy.yaml");
    let policy = std::fs::read_to_string(&path)?;
    let policy = policy.replace(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1,",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.4,",
    );
    let large = "verdict: require_approval\n    group: approvers\n    expires_after: 10m\n    audit: {rate: ";
    std::fs::write(&path, policy.replace(&format!("{large}0.1"), &format!("{large}0.5")))?;
    Gate::configured(config.path()).await
}

/// Every third is wrong, and every seventh is never judged.
fn judge(request: &AuditRequest) -> Option<FindingData> {
    let arguments: Value = serde_json::from_str(request.action.arguments.get()).ok()?;
    let n = arguments["n"].as_u64()?;
    let found = if n % 3 == 1 { Finding::Wrong } else { Finding::Correct };
    (!n.is_multiple_of(7)).then(|| finding(request, found, Some("a third")))
}

async fn write(gate: &Gate, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
    let record = |n: u64| proposal("one", &format!("r-{n}"), "write_record", json!({"n": n}));
    gate.agent("one").await?.send(&numbers.map(record).collect::<Vec<_>>()).await
}

/// Audits that [`judge`] answers, as far as they are still open.
const UNJUDGED: &str = "SELECT count(*) FROM audits u JOIN payloads p ON p.action = u.action
    WHERE u.state = 'open' AND (convert_from(p.body, 'UTF8')::json #>> '{data,arguments,n}')::int % 7 <> 0";

/// Actions of both patterns, drawn with several probabilities or not yet. Returns when those of the second report begin.
async fn act(gate: &mut Gate) -> anyhow::Result<String> {
    let _sam = gate.approving("sam", "approvers").await?;
    let _ada = gate.auditor("ada", judge).await?;
    write(gate, 0..EARLIER).await?;
    gate.reaches("SELECT count(*) FROM sampling", EARLIER as i64).await?;
    let between = time(Utc::now());
    write(gate, EARLIER..EARLIER + LATER).await?;
    let payment = |n: u64| proposal("two", &format!("p-{n}"), "move_money", json!({"amount": "500", "n": n}));
    gate.agent("two").await?.send(&(0..APPROVED).map(payment).collect::<Vec<_>>()).await?;
    let drawn = EARLIER + LATER + APPROVED;
    gate.reaches("SELECT count(*) FROM sampling", drawn as i64).await?;
    gate.reaches(&format!("SELECT CASE WHEN ({UNJUDGED}) = 0 THEN 1 ELSE 0 END::bigint"), 1).await?;
    gate.system.kill("sampler")?;
    write(gate, 1_000..1_000 + UNDRAWN).await?;
    let ended = "SELECT count(*) FROM actions WHERE state = 'succeeded'";
    gate.reaches(ended, (drawn + UNDRAWN) as i64).await?;
    recorded(gate).await?;
    Ok(between)
}

/// Where a test keeps files, and the Python that it uses.
struct Desk {
    folder: tempfile::TempDir,
    python: String,
}

impl Desk {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the script. Returns its output and its exit status.
    async fn recompute(&self, evidence: &Path, report: &Path) -> anyhow::Result<(String, Option<i32>)> {
        let mut command = Command::new(&self.python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recompute.py"));
        command.arg(evidence).arg("--report").arg(report);
        let output = tokio::process::Command::from(command).output().await?;
        let text = [output.stdout, output.stderr].concat();
        Ok((String::from_utf8_lossy(&text).into_owned(), output.status.code()))
    }

    /// Fails unless the script ends with `status` and says `what`.
    async fn expects(&self, evidence: &str, report: &str, status: i32, what: &str) -> anyhow::Result<()> {
        let (text, ended) = self.recompute(&self.path(evidence), &self.path(report)).await?;
        ensure!(
            ended == Some(status) && text.contains(what),
            "{ended:?}, not {status} and {what:?}:\n{text}"
        );
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.path(name), text)?)
    }
}

async fn report(gate: &Gate, arguments: &[&str]) -> anyhow::Result<Value> {
    let (output, ok) = gate.cli(&[&["report", "--json"], arguments].concat()).await?;
    ensure!(ok, "{output}");
    Ok(serde_json::from_str(&output)?)
}

#[tokio::test]
async fn the_reports_rates_follow_from_exported_evidence_alone() -> anyhow::Result<()> {
    let python = std::env::var("COUNTERSIGN_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let mut probe = Command::new(&python);
    probe.arg("--version");
    if !run(probe).await.is_ok_and(|(_, ok)| ok) {
        eprintln!("skipped: {python} does not run, and docs/recompute.py is written in it");
        return Ok(());
    }
    let mut gate = gate().await?;
    let from = time(Utc::now());
    let between = act(&mut gate).await?;
    let desk = Desk { folder: tempfile::tempdir()?, python };

    let all = report(&gate, &["--from", &from]).await?;
    let cells = all["rates"][0]["cells"].as_array().context("cells")?;
    let with =
        |pi: f64| cells.iter().find(|cell| cell["pi"] == pi).and_then(|cell| cell["executed"].as_u64());
    ensure!(cells.len() == 4 && with(0.0) == Some(UNDRAWN), "{all:#}");
    ensure!(
        all["rates"][0]["missing"].as_u64() > Some(0) && all["rates"][0]["wrong"].as_u64() > Some(0),
        "{all:#}"
    );
    desk.write("all.json", &all.to_string())?;
    desk.write("part.json", &report(&gate, &["--from", &between]).await?.to_string())?;
    for format in ["cloudevents", "csv"] {
        let file = desk.path(format).display().to_string();
        let (output, ok) =
            gate.cli(&["export", "evidence", "--from", &from, "--format", format, "--out", &file]).await?;
        ensure!(ok, "{output}");
        desk.expects(format, "all.json", 0, "they agree to nine digits").await?;
        desk.expects(format, "part.json", 0, "they agree to nine digits").await?;
    }
    altered(&desk, &all).await?;
    explained(&gate, &from).await?;
    gate.close().await
}

/// Whatever is changed, in the report or in the evidence, is noticed.
async fn altered(desk: &Desk, all: &Value) -> anyhow::Result<()> {
    for (name, figure) in [("executed", "executed is"), ("upper", "upper is"), ("wrong", "wrong is")] {
        let mut changed = all.clone();
        let figures = changed["rates"][1].as_object_mut().context("a line")?;
        let value = figures[name].as_f64().context("a figure")?;
        figures.insert(name.into(), json!(value * 1.001 + 1e-6));
        desk.write("changed.json", &changed.to_string())?;
        desk.expects("cloudevents", "changed.json", 1, figure).await?;
    }
    let evidence = std::fs::read_to_string(desk.path("cloudevents"))?;
    let judged = evidence.replacen(
        "\"finding\":\"correct\",\"mode\":\"audit\"",
        "\"finding\":\"wrong\",\"mode\":\"audit\"",
        1_000,
    );
    ensure!(judged != evidence, "no finding was changed");
    desk.write("judged", &judged)?;
    desk.expects("judged", "all.json", 1, "all that was executed: wrong is").await?;
    // With the manifest of what it was, the file is not even compared.
    std::fs::copy(desk.path("cloudevents.manifest.json"), desk.path("judged.manifest.json"))?;
    desk.expects("judged", "all.json", 1, "is not what its manifest says").await?;
    let (first, rest) = evidence.split_once('\n').context("a line")?;
    let (_, rest) = rest.split_once('\n').context("another line")?;
    desk.write("gap", &format!("{first}\n{rest}"))?;
    desk.expects("gap", "all.json", 2, "are missing").await?;
    // What an older version wrote does not say in which stratum an action counts that has no draw.
    let mut older = String::new();
    for line in evidence.lines() {
        let mut event: Value = serde_json::from_str(line)?;
        if let Some(policy) = event["data"]["policy"].as_object_mut() {
            policy.remove("stratum");
        }
        older += &format!("{event}\n");
    }
    desk.write("older", &older)?;
    desk.expects("older", "all.json", 2, "does not name its rule and stratum").await
}

/// The same counts stand in the derivation, which fits a terminal.
async fn explained(gate: &Gate, from: &str) -> anyhow::Result<()> {
    let found = report(gate, &["--from", from, "--explain"]).await?;
    let explanation = &found["explanation"];
    ensure!(explanation["lines"][0]["cells"] == found["rates"][0]["cells"], "{found:#}");
    ensure!(explanation["formulas"].as_array().is_some_and(|formulas| formulas.len() > 10), "{found:#}");
    let (text, ok) = gate.cli(&["report", "--explain", "--from", from]).await?;
    let wide = text.lines().any(|line| line.chars().count() > 80);
    ensure!(ok && !wide && text.contains("korn-graubard") && text.contains("arXiv 2210.10768"), "{text}");
    eprintln!("{text}");
    Ok(())
}
