//! What each user can do on the broker, in the database, and with a permit.

use std::process::Command;

use anyhow::{Context as _, ensure};
use countersign_broker::{reader::Reader, session::Session};
use countersign_core::action::Outcome;
use countersign_testkit::clients::proposal;
use countersign_tests::{Gate, LIMIT, expect, run};
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::{Value, json};

/// Publishes bytes to the execution exchange as administrator.
async fn inject(gate: &Gate, body: &[u8]) -> anyhow::Result<()> {
    let session = Session::open_confirming(&gate.system.place.amqp_url, "injector").await?;
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    session
        .channel
        .basic_publish("countersign.execution".into(), "permits".into(), options, body, properties)
        .await?
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_forged_or_replayed_permit_executes_nothing_and_is_recorded() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    // Receives a copy of every permit, for replaying.
    let session = Session::open(&gate.system.place.amqp_url, "spy").await?;
    let queue = QueueDeclareOptions { exclusive: true, ..Default::default() };
    session.channel.queue_declare("spy".into(), queue, FieldTable::default()).await?;
    let bind = QueueBindOptions::default();
    session
        .channel
        .queue_bind("spy".into(), "countersign.execution".into(), "#".into(), bind, FieldTable::default())
        .await?;
    let consume = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut spied =
        session.channel.basic_consume("spy".into(), "".into(), consume, FieldTable::default()).await?;

    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    expect(&mut agent, "a-1", Outcome::Succeeded).await?;
    let pack = tokio::time::timeout(LIMIT, spied.next()).await?.context("no permit came")??.data;

    inject(&gate, &pack).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'permit.refused'", 1).await?;
    ensure!(gate.refusals("permit.refused", "already_used").await? == 1);

    let forged = String::from_utf8(pack)?.replace("write_record", "move_money");
    inject(&gate, forged.as_bytes()).await?;
    inject(&gate, proposal("one", "x", "move_money", json!({"amount": "5"})).to_string().as_bytes()).await?;
    inject(&gate, b"not even json").await?;
    gate.reaches("SELECT count(*) FROM quarantine WHERE exchange = 'countersign.execution'", 3).await?;
    ensure!(gate.refusals("permit.refused", "permit_forged").await? == 1);
    ensure!(gate.refusals("permit.refused", "permit_malformed").await? == 2);
    ensure!(gate.tools.calls() == 1);
    gate.close().await
}

#[tokio::test]
async fn content_that_was_changed_in_the_database_is_not_executed() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests =
        Reader::open(gate.system.url("reviewer-sam")?, "test", "countersign.approvals.approvers").await?;
    let (output, ok) =
        gate.cli(&["hold", "--tool", "write_record", "--operator", "olga", "--reason", "test"]).await?;
    ensure!(ok, "{output}");
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'held'", 1).await?;
    // The database's owner rewrites the stored proposal, and no digest is updated.
    gate.count("WITH changed AS (UPDATE payloads SET body = convert_to(replace(convert_from(body, 'UTF8'), '\"n\":1', '\"n\":2'), 'UTF8')
                RETURNING 1) SELECT count(*) FROM changed").await?;
    let (output, ok) = gate.cli(&["hold", "release", "1", "--operator", "omar"]).await?;
    ensure!(ok, "{output}");
    // It is evaluated again with the other content, and only the content evaluated now can run.
    let outcome = expect(&mut agent, "a-1", Outcome::Succeeded).await?;
    let ran = outcome.result.context("it ran")?.get().to_owned();
    let stored = "SELECT (convert_from(content, 'UTF8')::json -> 'arguments' ->> 'n')::bigint FROM payloads";
    ensure!(ran.contains(&format!("\"n\":{}", gate.count(stored).await?)), "{ran}");
    ensure!(requests.next::<Value>(std::time::Duration::from_millis(1)).await?.is_none());
    gate.close().await
}

#[tokio::test]
async fn no_process_can_do_anothers_work_in_the_database() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let refused = async |role: &str, sql: &str| -> anyhow::Result<()> {
        let (client, connection) =
            tokio_postgres::connect(&gate.system.database_url(role)?, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let error = client.batch_execute(sql).await.err();
        let code = error.as_ref().and_then(|error| error.code().map(|code| code.code().to_owned()));
        ensure!(code.as_deref() == Some("42501"), "{role} may {sql}: {error:?}");
        drop(client);
        connection.await??;
        Ok(())
    };
    refused("executor", "INSERT INTO approvals SELECT FROM approvals").await?;
    refused("executor", "INSERT INTO permits SELECT FROM permits").await?;
    refused("executor", "UPDATE actions SET verdict = 'allow'").await?;
    refused("executor", "UPDATE actions SET approved = true").await?;
    refused("executor", "UPDATE payloads SET content = ''").await?;
    refused("router", "INSERT INTO sampling SELECT FROM sampling").await?;
    refused("sampler", "UPDATE actions SET permit = NULL").await?;
    refused("router", "UPDATE configs SET policy = ''").await?;
    for role in ["router", "executor", "sampler", "operator"] {
        refused(role, "UPDATE evidence SET kind = ''").await?;
        refused(role, "DELETE FROM evidence").await?;
        refused(role, "TRUNCATE evidence").await?;
        refused(role, "UPDATE sampling SET selected = false").await?;
        refused(role, "DELETE FROM actions").await?;
    }
    gate.close().await
}

#[tokio::test]
async fn a_foreign_client_that_knows_only_the_contract_can_do_its_own_work_and_nothing_else()
-> anyhow::Result<()> {
    let Ok(python) = std::env::var("COUNTERSIGN_TEST_PYTHON") else {
        eprintln!("SKIPPED: COUNTERSIGN_TEST_PYTHON is not set; `cargo xtask test` sets it");
        return Ok(());
    };
    let gate = Gate::start().await?;
    let mut client = Command::new(python);
    client
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/foreign_client.py"))
        .env("AGENT_AMQP_URL", gate.system.url("agent-one")?)
        .env("AGENT_ID", "one");
    let (output, ok) = run(client).await?;
    ensure!(ok, "{output}");
    ensure!(output.contains("outcome succeeded"), "{output}");
    ensure!(output.contains("refused 28 of 28"), "{output}");
    gate.close().await
}
