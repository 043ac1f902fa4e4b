//! Figures of reviewers: from decisions and audits to what operators and others see.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use chrono::{TimeDelta, Utc};
use countersign_core::message::{ApprovalRequest, AuditRequest, Decision, Finding, FindingData};
use countersign_testkit::clients::{decided, decision, finding, proposal, statement};
use countersign_tests::{Gate, folder};
use serde_json::{Value, json};

/// Who decides on how many payments, and how many of these each rejects. Nina is the operator omar.
const SHARES: [(&str, u64, u64); 3] = [("sam", 30, 3), ("mara", 25, 10), ("nina", 20, 8)];
const PAYMENTS: u64 = 75;

async fn gate() -> anyhow::Result<Gate> {
    let config = folder("version: \"test-1\"\n", "version: \"test-1\"\naudits: {not_executed: 1.0}\n")?;
    let change = |name: &str, from: &str, to: &str| -> anyhow::Result<()> {
        let path = config.path().join(name);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{from:?} is not in {name}");
        Ok(std::fs::write(&path, text.replacen(from, to, 1))?)
    };
    let large = "group: approvers\n    expires_after: 10m\n    audit: {rate: ";
    let policy = std::fs::read_to_string(config.path().join("policy.yaml"))?;
    let rule = policy.find("id: large").context("the rule")?;
    let (before, after) = policy.split_at(rule);
    let after = after.replacen(&format!("{large}0.1"), &format!("{large}1.0"), 1);
    std::fs::write(config.path().join("policy.yaml"), format!("{before}{after}"))?;
    let mara = "  - {id: mara, amqp_user: reviewer-mara, groups: [approvers]}\n";
    let nina = "  - {id: nina, amqp_user: reviewer-nina, groups: [approvers], person: omar}\n";
    change("directory.yaml", mara, &format!("{mara}{nina}"))?;
    Gate::configured(config.path()).await
}

fn number(arguments: &str) -> Option<u64> {
    serde_json::from_str::<Value>(arguments).ok()?["n"].as_u64()
}

/// Who decides on payment `n`, and whether they approve.
fn share(n: u64) -> Option<(&'static str, bool)> {
    let mut first = 0;
    SHARES.iter().find_map(|&(who, count, rejected)| {
        let place = n.checked_sub(first)?;
        first += count;
        (place < count).then_some((who, place >= rejected))
    })
}

/// Of what sam approved, three were wrong, and so was one of the rejections.
fn judge(request: &AuditRequest) -> Option<FindingData> {
    let wrong = matches!(number(request.action.arguments.get())?, 0 | 10 | 20 | 29);
    Some(finding(request, if wrong { Finding::Wrong } else { Finding::Correct }, Some("not so")))
}

/// Decides on all payments, each once, as the person whose share it is.
async fn decide(gate: &Gate) -> anyhow::Result<()> {
    let mut requests = gate.requests("sam", "approvers").await?;
    let payment = |n: u64| proposal("two", &format!("p-{n}"), "move_money", json!({"amount": "500", "n": n}));
    gate.agent("two").await?.send(&(0..PAYMENTS).map(payment).collect::<Vec<_>>()).await?;
    let mut people = BTreeMap::new();
    for (who, ..) in SHARES {
        people.insert(who, gate.reviewer(who).await?);
    }
    let mut seen = BTreeSet::new();
    while (seen.len() as u64) < PAYMENTS {
        let request: ApprovalRequest = requests.next().await?;
        if !seen.insert(request.approval) {
            continue;
        }
        let n = number(request.action.arguments.get()).context("n")?;
        let (who, approves) = share(n).context("a share")?;
        let decision = if approves { Decision::Approve } else { Decision::Reject };
        people.get(who).context("a reviewer")?.decides(&request, decision, Some("so")).await?;
    }
    gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", PAYMENTS as i64).await
}

/// Tara rejects a payment that needs three people, and then approves it.
async fn change_mind(gate: &Gate) -> anyhow::Result<()> {
    let mut requests = gate.requests("tara", "treasury").await?;
    gate.agent("two").await?.propose("changed", "pay", json!({"amount": "500"})).await?;
    let request = requests.next().await?;
    let (tara, signer) = (gate.reviewer("tara").await?, gate.system.signer("tara", "tara")?);
    for (decided_so, ago) in [(Decision::Reject, 10), (Decision::Approve, 0)] {
        let one = decision(&request, decided_so, Some("so"));
        tara.sends(&[decided(statement(&signer, &[one], Utc::now() - TimeDelta::seconds(ago)))]).await?;
        let stored = format!(
            "SELECT count(*) FROM decisions WHERE reviewer = 'tara' AND decision = '{}'",
            decided_so.as_str()
        );
        gate.reaches(&stored, 1).await?;
    }
    Ok(())
}

fn read(output: anyhow::Result<(String, bool)>) -> anyhow::Result<Value> {
    let (output, ok) = output?;
    ensure!(ok, "{output}");
    Ok(serde_json::from_str(&output)?)
}

/// The line of a person, or of all others; of a stratum or of everything.
fn line<'a>(found: &'a Value, person: Option<&str>, stratum: bool) -> anyhow::Result<&'a Value> {
    let lines = found["lines"].as_array().context("lines")?;
    let of = |line: &&Value| {
        line["person"].as_str() == person
            && line["stratum"].is_string() == stratum
            && (stratum || line["rule"].is_null())
    };
    lines.iter().find(of).with_context(|| format!("{person:?} has no line in {found:#}"))
}

#[tokio::test]
async fn reviewers_see_their_own_figures_and_operators_everybodys() -> anyhow::Result<()> {
    let gate = gate().await?;
    let _ada = gate.auditor("ada", judge).await?;
    decide(&gate).await?;
    change_mind(&gate).await?;
    let written = gate.count("SELECT count(*) FROM evidence").await?;

    let asked = ["report", "reviewers", "--group", "approvers", "--json"];
    let found = read(gate.cli_of("omar", &asked).await)?;
    ensure!(found["people"] == 3 && found["time_from"] == "request", "{found:#}");
    ensure!(found["lines"][0]["person"] == "omar", "the operator's own decisions come first: {found:#}");
    let sam = line(&found, Some("sam"), false)?;
    let rate = |line: &Value, figure: &str| line[figure]["figure"]["rate"].as_f64();
    ensure!(sam["cases"] == 30 && rate(sam, "approved") == Some(0.9), "{sam:#}");
    ensure!(
        sam["approved_wrong"]["figure"]["cases"] == 27 && sam["approved_wrong"]["figure"]["positive"] == 3,
        "{sam:#}"
    );
    let wrong = &sam["approved_wrong"]["figure"];
    ensure!(
        wrong["lower"].as_f64() < Some(1.0 / 9.0) && wrong["upper"].as_f64() > Some(1.0 / 9.0),
        "{sam:#}"
    );
    ensure!(sam["rejected_wrong"] == "too_few" && rate(sam, "changed") == Some(0.0), "{sam:#}");
    ensure!(
        sam["time"]["figure"]["cases"] == 30
            && sam["time"]["figure"]["median"]["seconds"].as_f64() > Some(0.0),
        "{sam:#}"
    );
    let beside = &line(&found, Some("sam"), true)?["peers"]["figure"];
    // Peers approve 27 of 45.
    ensure!(beside["people"] == 2 && beside["peers"]["positive"] == 27, "{beside:#}");
    ensure!(beside["difference"].as_f64().is_some_and(|it| (it - 0.3).abs() < 1e-9), "{beside:#}");
    ensure!(beside["lower"].as_f64() < Some(0.3) && beside["upper"].as_f64() > Some(0.3), "{beside:#}");
    ensure!(rate(line(&found, Some("omar"), false)?, "approved") == Some(0.6), "{found:#}");

    let few = read(gate.cli_of("omar", &[&asked[..], &["--minimum", "3"]].concat()).await)?;
    let rejected = &line(&few, Some("sam"), false)?["rejected_wrong"]["figure"];
    ensure!(rejected["cases"] == 3 && rejected["positive"] == 1, "{few:#}");
    let treasury = ["report", "reviewers", "--group", "treasury", "--minimum", "1", "--json"];
    let changed = read(gate.cli_of("omar", &treasury).await)?;
    ensure!(rate(line(&changed, Some("tara"), false)?, "changed") == Some(1.0), "{changed:#}");

    others(&gate).await?;
    ensure!(gate.count("SELECT count(*) FROM evidence").await? == written, "a report wrote evidence");
    gate.close().await
}

/// What somebody sees who is no operator.
async fn others(gate: &Gate) -> anyhow::Result<()> {
    let asked = ["report", "reviewers", "--group", "approvers", "--person", "sam"];
    let found = read(gate.cli(&[&asked[..], &["--json"]].concat()).await)?;
    ensure!(found["lines"][0]["person"] == "sam", "{found:#}");
    let rest = line(&found, None, false)?;
    ensure!(
        rest["people"] == 2 && rest["cases"] == 45 && rest["approved"]["figure"]["rate"] == 0.6,
        "{found:#}"
    );
    let (text, ok) = gate.cli(&asked).await?;
    ensure!(ok && text.contains("ALL OTHERS, 2 people") && text.contains("sam"), "{text}");
    ensure!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    eprintln!("{text}");
    for secret in ["mara", "nina", "omar"] {
        ensure!(!text.contains(secret) && !found.to_string().contains(secret), "{secret} is named:\n{text}");
    }
    for (wrong, why) in [("--person", "has decided nothing"), ("--group", "is not a group")] {
        let (output, ok) = gate.cli(&["report", "reviewers", wrong, "nobody"]).await?;
        ensure!(!ok && output.contains(why), "{output}");
    }
    Ok(())
}
