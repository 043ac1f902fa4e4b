//! Audits drawn by how likely a rule thinks each action to be wrong.

use anyhow::{Context as _, ensure};
use countersign_broker::reader::Reader;
use countersign_core::message::Finding;
use countersign_testkit::{
    clients::{finding, proposal},
    wait::eventually,
};
use countersign_tests::{Gate, LIMIT, folder, willing};
use serde_json::{Value, json};

/// Records from 100 on are suspected; those below 0 have no score that makes sense.
const SCORE: &str = "action.arguments.n >= 100 ? 0.2 : (action.arguments.n < 0 ? 2.0 : 0.0)";

async fn gate() -> anyhow::Result<Gate> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1,",
        &format!("\"pay\"]\n    verdict: allow\n    audit: {{rate: 0.1, ceiling: 0.4, score: {SCORE:?},"),
    )?;
    let path = config.path().join("countersign.toml");
    let toml = std::fs::read_to_string(&path)?;
    std::fs::write(&path, format!("{toml}\n[limits]\ntransaction = \"5s\"\n[sampling]\nepoch = \"1s\""))?;
    Gate::configured_acting(config, willing).await
}

/// 100 records without suspicion, 100 suspected ones of which every fifth is wrong, and 20 without a score.
async fn played(gate: &Gate) -> anyhow::Result<()> {
    let _auditor = gate
        .auditor("ada", |request| {
            let arguments: Value = serde_json::from_str(request.action.arguments.get()).unwrap_or_default();
            let n = arguments["n"].as_i64().unwrap_or_default();
            let found = if n >= 100 && n % 5 == 0 { Finding::Wrong } else { Finding::Correct };
            Some(finding(request, found, Some("not this one")))
        })
        .await?;
    let agent = gate.agent("one").await?;
    let event = |n: i64| proposal("one", &format!("r-{n}"), "write_record", json!({"n": n}));
    agent.send(&(-20..200).map(event).collect::<Vec<_>>()).await?;
    gate.reaches("SELECT count(*) FROM sampling", 220).await?;
    eventually("every audit is judged", LIMIT, async || {
        (gate.count("SELECT count(*) FROM audits WHERE state = 'open'").await.ok()? == 0).then_some(())
    })
    .await
}

async fn changes(gate: &Gate, sql: &str) -> anyhow::Result<()> {
    let store = gate.system.store()?;
    let tx = store.transaction().await?;
    ensure!(tx.execute(sql, &[]).await.with_context(|| sql.to_owned())? > 0, "{sql}");
    Ok(tx.commit().await?)
}

async fn proofs(gate: &Gate) -> anyhow::Result<(Vec<Value>, bool)> {
    let (output, ok) = gate.cli(&["audits", "prove", "--json"]).await?;
    Ok((serde_json::from_str(&output).with_context(|| output.clone())?, ok))
}

#[tokio::test]
async fn the_inclusion_probability_follows_the_score_and_a_failed_one_is_audited_at_the_ceiling()
-> anyhow::Result<()> {
    let gate = gate().await?;
    played(&gate).await?;
    let of = async |records: &str, condition: &str| {
        let sql = format!(
            "SELECT count(*) FROM sampling s JOIN actions a ON a.id = s.action JOIN payloads p ON p.action = a.id
             WHERE (a.event_id ~ '{records}') AND {condition}"
        );
        gate.count(&sql).await
    };
    ensure!(of("^r-[0-9]{1,2}$", "s.pi = 0.1 AND a.audit_score = 0").await? == 100);
    // 0.4 · 2√(0.2 · 0.8) = 0.32, and the next power of √2 is 0.354.
    ensure!(of("^r-1[0-9]{2}$", "abs(s.pi - sqrt(2) / 4) < 1e-12 AND a.audit_score = 0.2").await? == 100);
    ensure!(of("^r--", "s.pi = 0.4 AND a.audit_score = 0.5").await? == 20);
    // It is seen: why there was no score, and with what each draw was made.
    let failed = "SELECT count(*) FROM evidence WHERE kind = 'action.evaluated' AND body->>'score_errored' LIKE '%0.0 to 1.0'";
    ensure!(gate.count(failed).await? == 20);
    let drawn = "SELECT count(*) FROM evidence WHERE kind = 'action.sampled' AND body->>'score' = '0.2'";
    ensure!(gate.count(drawn).await? == 100);
    // But not by the agent.
    let url = gate.system.url("agent-one")?;
    let mut outcomes = Reader::open(url, "test", "countersign.outcomes.one").await?;
    for _ in 0..220 {
        let outcome = outcomes.next::<Value>(LIMIT).await?.context("no outcome came")?;
        ensure!(!outcome.data.to_string().contains("score"), "{}", outcome.data);
    }

    let (output, _) = gate.cli(&["report", "--json"]).await?;
    let report: Value = serde_json::from_str(&output)?;
    let scored = &report["scored"][0];
    // 100 · 0.2 and 20 · 0.5.
    ensure!(
        scored["rule"] == "allowed" && scored["executed"] == 220 && scored["predicted"] == 30.0,
        "{scored}"
    );
    let found = "SELECT (20 * 0.5 + 100 * 0.2 - count(*) FILTER (WHERE a.audit_score = 0.5) * 0.5 / 0.4
                  + (count(*) FILTER (WHERE u.finding = 'wrong') - count(*) FILTER (WHERE a.audit_score = 0.2) * 0.2)
                    * 4 / sqrt(2)) * 1000
                 FROM audits u JOIN actions a ON a.id = u.action";
    let expected = gate.count(&format!("SELECT round(({found}))::bigint")).await? as f64 / 1_000.0;
    let errors = scored["errors"].as_f64().unwrap_or(f64::NAN);
    let judged = gate.count("SELECT count(*) FROM audits WHERE finding = 'wrong'").await? as f64;
    ensure!((errors - expected.max(judged)).abs() < 1e-3, "{scored}, expected {expected}");
    let (output, _) = gate.cli(&["report"]).await?;
    ensure!(output.contains("RULES WITH A SCORE"), "{output}");
    gate.close().await
}

/// Whoever can write the database makes an action that is suspected look harmless.
#[tokio::test]
async fn scores_are_proved_from_the_proposals_and_what_is_erased_is_said() -> anyhow::Result<()> {
    let mut gate = gate().await?;
    played(&gate).await?;
    let open = "SELECT count(*) FROM epochs WHERE epoch NOT IN (SELECT epoch FROM epoch_keys)";
    eventually("every epoch closes", LIMIT, async || (gate.count(open).await.ok()? == 0).then_some(()))
        .await?;
    gate.system.kill("sampler")?;
    let (all, ok) = proofs(&gate).await?;
    ensure!(ok && all.iter().all(|proof| proof["found"] == "proved" && proof["unscored"] == 0), "{all:?}");

    let one = "(SELECT s.action FROM sampling s JOIN actions a ON a.id = s.action
                WHERE a.audit_score = 0.2 AND NOT s.selected ORDER BY s.action LIMIT 1)";
    changes(&gate, &format!("UPDATE actions SET audit_score = 0, audit_rate = 0.1 WHERE id = {one}")).await?;
    let changed = "(SELECT s.action FROM sampling s JOIN actions a ON a.id = s.action
                    WHERE a.audit_score = 0 AND s.wanted > 0.2)";
    changes(&gate, &format!("UPDATE sampling SET pi = 0.1, wanted = 0.1 WHERE action = {changed}")).await?;
    let (all, ok) = proofs(&gate).await?;
    let wrong: u64 = all.iter().filter_map(|proof| proof["wrong_in_all"].as_u64()).sum();
    ensure!(!ok && wrong == 1, "{all:?}");

    // Without its content nobody can tell, and that is said.
    let erased = "UPDATE payloads p SET body = '', content = NULL, edited = NULL FROM actions a
                  WHERE a.id = p.action AND a.event_id ~ '^r-1[0-9]{2}$' AND a.audit_score = 0";
    changes(&gate, erased).await?;
    let (all, ok) = proofs(&gate).await?;
    let unscored: u64 = all.iter().filter_map(|proof| proof["unscored"].as_u64()).sum();
    ensure!(ok && unscored == 1, "{all:?}");
    gate.close().await
}
