//! Reports on drift and fairness: from actions, audits and stored content to flags.

use anyhow::{Context as _, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use countersign_core::message::{AuditRequest, Finding, FindingData};
use countersign_testkit::clients::{finding, proposal};
use countersign_tests::{Gate, folder};
use serde_json::{Value, json};

/// Waves in each of two phases, and actions of each of two regions in a wave.
const WAVES: u64 = 8;
const A_WAVE: u64 = 6;

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Wrong in the second phase, of the region south.
fn judge(request: &AuditRequest) -> Option<FindingData> {
    let arguments: Value = serde_json::from_str(request.action.arguments.get()).ok()?;
    let wrong = arguments["n"].as_u64()? >= WAVES && arguments["customer"]["region"] == "south";
    Some(if wrong {
        finding(request, Finding::Wrong, Some("not there"))
    } else {
        finding(request, Finding::Correct, None)
    })
}

/// Sends the waves from this one on, and waits until all their audits are judged.
async fn phase(gate: &Gate, first: u64) -> anyhow::Result<()> {
    let agent = gate.agent("one").await?;
    for wave in first..first + WAVES {
        let action = |n: u64| {
            let region = if n.is_multiple_of(2) { "north" } else { "south" };
            let arguments = json!({"n": wave, "customer": {"region": region}});
            proposal("one", &format!("w-{wave}-{n}"), "write_record", arguments)
        };
        agent.send(&(0..2 * A_WAVE).map(action).collect::<Vec<_>>()).await?;
        let sent = i64::try_from((wave + 1) * 2 * A_WAVE)?;
        gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", sent).await?;
    }
    Ok(())
}

async fn report(gate: &Gate, arguments: &[&str]) -> anyhow::Result<Value> {
    let least = ["--least", "10", "--json"];
    let (output, ok) = gate.cli(&[&["report"], arguments, &least].concat()).await?;
    ensure!(ok, "{output}");
    Ok(serde_json::from_str(&output)?)
}

fn flagged(measured: &Value) -> Option<bool> {
    measured["compared"]["flagged"].as_bool()
}

#[tokio::test]
async fn groups_that_fare_worse_and_strata_that_got_worse_are_flagged() -> anyhow::Result<()> {
    let allowed = "\"pay\"]\n    verdict: allow\n    audit: {rate: ";
    let config = folder(&format!("{allowed}0.1"), &format!("{allowed}1.0"))?;
    let gate = Gate::configured(config.path()).await?;
    let _ada = gate.auditor("ada", judge).await?;
    let from = time(Utc::now());
    phase(&gate, 0).await?;
    let split = time(Utc::now());
    phase(&gate, WAVES).await?;
    let to = time(Utc::now());
    let all = 4 * WAVES * A_WAVE;

    let by = ["fairness", "--by", "/arguments/customer/region", "--from", &from, "--to", &to];
    let found = report(&gate, &[&by[..], &["--reference", "north"]].concat()).await?;
    let [north, south] = found["groups"].as_array().context("groups")?.as_slice() else {
        anyhow::bail!("{found}")
    };
    ensure!(found["reference"] == "north" && north["group"] == json!(["north"]), "{found}");
    ensure!(found["actions"] == all && found["not_known"] == 0 && south["actions"] == all / 2, "{found}");
    ensure!(south["wrong"]["rate"]["rate"] == 0.5 && north["wrong"]["rate"]["rate"] == 0.0, "{found}");
    ensure!(flagged(&south["wrong"]) == Some(true) && flagged(&south["audited"]) == Some(false), "{found}");
    ensure!(flagged(&north["wrong"]).is_none() && south["rejected"] == json!({}), "{found}");

    let found = report(&gate, &["drift", "--from", &from, "--split", &split, "--to", &to]).await?;
    let [stratum] = found["groups"].as_array().context("groups")?.as_slice() else {
        anyhow::bail!("{found}")
    };
    ensure!(stratum["group"][0] == "one" && stratum["group"][1] == "write_record", "{found}");
    ensure!(
        stratum["wrong"]["reference"]["rate"] == 0.0 && stratum["wrong"]["rate"]["rate"] == 0.5,
        "{found}"
    );
    ensure!(
        flagged(&stratum["wrong"]) == Some(true) && flagged(&stratum["audited"]) == Some(false),
        "{found}"
    );

    let (text, ok) = gate.cli(&[&["report"], &by[..], &["--least", "10"]].concat()).await?;
    ensure!(ok && text.contains("DIFFERS  "), "{text}");
    ensure!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    eprintln!("{text}");

    erased_and_unnamed(&gate, &by, all).await?;
    // The groups' names are nowhere but in what was stored of the actions.
    ensure!(gate.count("SELECT count(*) FROM evidence WHERE body::text LIKE '%south%'").await? == 0);
    gate.close().await
}

/// What is erased, too small or in the directory.
async fn erased_and_unnamed(gate: &Gate, by: &[&str], all: u64) -> anyhow::Result<()> {
    let erased = "WITH erased AS (UPDATE payloads p SET content = NULL FROM actions a
                                  WHERE a.id = p.action AND a.event_id LIKE 'w-0-%' RETURNING 1)
                  SELECT count(*) FROM erased";
    ensure!(gate.count(erased).await? == i64::try_from(2 * A_WAVE)?);
    let found = report(gate, by).await?;
    ensure!(found["not_known"] == 2 * A_WAVE && found["actions"] == all, "{found}");
    let owners = [&["fairness", "--by", "/directory/owner"], &by[3..]].concat();
    let found = report(gate, &owners).await?;
    ensure!(found["groups"][0]["group"] == json!(["mara"]) && found["not_known"] == 0, "{found}");
    // Waves are groups of twelve: enough, and too small.
    let waves = [&["fairness", "--by", "/arguments/n"], &by[3..]].concat();
    let found = report(gate, &waves).await?;
    ensure!(found["groups"].as_array().is_some_and(|groups| groups.len() as u64 == 2 * WAVES - 1), "{found}");
    let (output, ok) = gate.cli(&[&["report"], &waves[..], &["--least", "13", "--json"]].concat()).await?;
    let found: Value = serde_json::from_str(&output)?;
    ensure!(ok && found["groups"] == json!([]) && found["not_listed"] == all - 2 * A_WAVE, "{found}");
    for wrong in ["region", "/directory/colour"] {
        let (output, ok) = gate.cli(&["report", "fairness", "--by", wrong]).await?;
        ensure!(!ok, "{output}");
    }
    let (output, ok) = gate.cli(&["report", "drift", "--split", "1s", "--to", "1h"]).await?;
    ensure!(!ok && output.contains("in order"), "{output}");
    Ok(())
}
