//! A message that the database refuses, for whatever reason, harms no other.

use anyhow::ensure;
use countersign_core::action::Outcome;
use countersign_testkit::clients::{proposal, withdrawal};
use countersign_tests::{Gate, all_succeed, expect};
use serde_json::{Value, json};

/// Makes the database answer with an SQLSTATE where an action's id begins with `poison`.
async fn refuse(gate: &Gate, sqlstate: &str) -> anyhow::Result<()> {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           IF NEW.event_id LIKE 'poison%' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}'; END IF;
           RETURN NEW;
         END $$;
         CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON actions FOR EACH ROW EXECUTE FUNCTION refuse();"
    );
    execute(gate, &sql).await
}

async fn execute(gate: &Gate, sql: &str) -> anyhow::Result<()> {
    let tx = gate.system.store()?.transaction().await?;
    tx.batch_execute(sql).await?;
    Ok(tx.commit().await?)
}

fn record(id: &str) -> Value {
    proposal("one", id, "write_record", json!({"n": 1}))
}

#[tokio::test]
async fn whatever_the_database_says_of_one_message_the_others_go_on() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    // A value, the program's limits, raised by a trigger, an internal error, and a cancelled statement.
    for (n, sqlstate) in ["22003", "54000", "P0001", "XX000", "57014"].into_iter().enumerate() {
        refuse(&gate, sqlstate).await?;
        let mut events: Vec<Value> = (0..40).map(|good| record(&format!("{sqlstate}-{good}"))).collect();
        events.insert(20, record(&format!("poison-{sqlstate}")));
        agent.send(&events).await?;
        all_succeed(&mut agent, 40).await?;
        gate.reaches("SELECT count(*) FROM quarantine WHERE code = 'poison'", n as i64 + 1).await?;
    }
    ensure!(gate.count("SELECT count(*) FROM probes").await? == 0);
    gate.close().await
}

#[tokio::test]
async fn a_full_disk_quarantines_nothing() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    refuse(&gate, "53100").await?;
    agent.send(&[record("poison")]).await?;
    // The lane has restarted more often than a message may fail.
    let restarts = || gate.system.log("router").matches("lane restarts").count();
    countersign_testkit::wait::eventually("the lane restarts", countersign_tests::LIMIT, async || {
        (restarts() > 8).then_some(())
    })
    .await?;
    execute(&gate, "DROP TRIGGER refuse ON actions").await?;
    expect(&mut agent, "poison", Outcome::Succeeded).await?;
    ensure!(gate.count("SELECT count(*) FROM quarantine").await? == 0);
    gate.close().await
}

#[tokio::test]
async fn names_of_any_length_stop_no_lane() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let long = |length: usize| (0..length).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect::<String>();
    let lengths = [0, 257, 8_000, 100_000];
    let withdrawals: Vec<Value> =
        lengths.into_iter().map(|length| withdrawal("one", &long(length))).collect();
    agent.send(&withdrawals).await?;
    let kept = "SELECT count(*) FROM quarantine WHERE code = 'invalid_cancellation'";
    gate.reaches(kept, lengths.len() as i64).await?;
    let mut event = record("good");
    for member in ["version", "model", "on_behalf_of"] {
        event["data"]["agent"][member] = "\"".repeat(256).into();
    }
    agent.send(&[event]).await?;
    expect(&mut agent, "good", Outcome::Succeeded).await?;
    ensure!(!gate.system.log("router").contains("lane restarts"));
    gate.close().await
}
