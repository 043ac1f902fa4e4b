//! Hostile messages: oversized and deeply nested input, JSON tricks, and SQL in every field.

use anyhow::{Context as _, ensure};
use chrono::Utc;
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    reader::Reader,
    topology::{DECISIONS, FINDINGS, audits_queue},
};
use countersign_core::{
    action::Outcome,
    message::{AuditRequest, CloudEvent, Decision, Finding, kind},
};
use countersign_testkit::clients::{decided, decision, finding, found, proposal, statement, withdrawal};
use countersign_tests::{Gate, LIMIT, expect, folder, willing};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use super::{connect, publish};

#[tokio::test]
async fn a_message_with_the_largest_header_blocks_nobody() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    for (exchange, user) in
        [("countersign.actions.one", "agent-one"), (DECISIONS, "reviewer-sam"), (FINDINGS, "auditor-ada")]
    {
        let connection = connect(gate.system.url(user)?).await?;
        let channel = connection.create_channel().await?;
        let mut headers = FieldTable::default();
        // One frame, nearly the broker's maximum: a consumer that negotiated a smaller one would be disconnected each time.
        headers.insert("x-large".into(), AMQPValue::LongString("x".repeat(120 << 10).into()));
        let properties = BasicProperties::default().with_user_id(user.into()).with_headers(headers);
        publish(&channel, (exchange, "x"), properties, b"{}").await?;
        let kept = format!("SELECT count(*) FROM quarantine WHERE exchange = '{exchange}'");
        gate.reaches(&kept, 1).await?;
    }
    let mut agent = gate.agent("one").await?;
    agent.propose("good", "write_record", json!({"n": 1})).await?;
    expect(&mut agent, "good", Outcome::Succeeded).await?;
    gate.close().await
}

#[tokio::test]
async fn every_ingress_refuses_the_same_malformed_messages() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{{\"data\":{}1{}}}", open.repeat(levels), close.repeat(levels)).into_bytes()
    };
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("not_json", vec![]),
        ("not_json", b"\xff\xfe{}".to_vec()),
        ("not_json", br#"{"a":"\ud800"}"#.to_vec()),
        ("not_json", b"{} {}".to_vec()),
        ("message_too_large", vec![b' '; 300 << 10]),
        ("nested_too_deeply", nested("[", "]", 65)),
        ("nested_too_deeply", nested("[", "]", 100_000)),
        ("nested_too_deeply", nested("{\"a\":", "}", 10_000)),
        ("duplicate_key", br#"{"data":{"a":1,"\u0061":2}}"#.to_vec()),
        ("integer_out_of_range", br#"{"data":9007199254740993}"#.to_vec()),
        ("integer_out_of_range", br#"{"data":1e400}"#.to_vec()),
        ("reserved_key", br#"{"data":{"$serde_json::private::RawValue":"{}"}}"#.to_vec()),
    ];
    for (exchange, user) in
        [("countersign.actions.one", "agent-one"), (DECISIONS, "reviewer-sam"), (FINDINGS, "auditor-ada")]
    {
        let connection = connect(gate.system.url(user)?).await?;
        let channel = connection.create_channel().await?;
        for (_, body) in &bodies {
            let properties = BasicProperties::default().with_user_id(user.into());
            publish(&channel, (exchange, "x"), properties, body).await?;
        }
        let kept = format!("SELECT count(*) FROM quarantine WHERE exchange = '{exchange}'");
        gate.reaches(&kept, bodies.len() as i64).await?;
        for (code, _) in &bodies {
            let wanted = bodies.iter().filter(|(other, _)| other == code).count() as i64;
            let found = gate.count(&format!("{kept} AND code = '{code}' AND author = '{user}'")).await?;
            ensure!(found == wanted, "{exchange}: {found} of {wanted} are {code}");
        }
    }
    ensure!(gate.count("SELECT count(*) FROM actions").await? == 0 && gate.tools.calls() == 0);
    // All processes still work.
    let mut agent = gate.agent("one").await?;
    agent.propose("good", "write_record", json!({"n": 1})).await?;
    expect(&mut agent, "good", Outcome::Succeeded).await?;
    gate.close().await
}

/// Ends a statement within single quotes.
const SQL: &str = "x'); DROP TABLE actions CASCADE; UPDATE actions SET approved = true; --";
/// The same with other quotes, placeholders and array syntax.
const MORE: &str = "\"}'::jsonb); DELETE FROM evidence; $$ \\' %s $1 {0} E'\\\\";

/// The number of columns in the schema.
async fn columns(gate: &Gate) -> anyhow::Result<i64> {
    gate.count("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public'").await
}

#[tokio::test]
async fn sql_in_any_field_is_text_and_stays_text() -> anyhow::Result<()> {
    // Every letter is audited.
    let rate = |rate: &str| format!("\"pay\"]\n    verdict: allow\n    audit: {{rate: {rate},");
    let gate = Gate::configured_acting(folder(&rate("0.1"), &rate("1.0"))?, willing).await?;
    let before = columns(&gate).await?;
    let mut agent = gate.agent("one").await?;
    let hostile = |id: &str, tool: &str, mut arguments: Value| {
        arguments[SQL] = json!([MORE, {"a": SQL}]);
        let mut event = proposal("one", id, tool, arguments);
        event["traceparent"] = SQL.into();
        event["subject"] = MORE.into();
        event["data"]["agent"]["version"] = SQL.into();
        event["data"]["agent"]["model"] = MORE.into();
        event["data"]["agent"]["on_behalf_of"] = SQL.into();
        event["data"]["agent"][SQL] = MORE.into();
        event["data"]["reason"] = MORE.into();
        event["data"]["task"] = json!({SQL: MORE});
        event["data"]["context"] = json!([{"uri": SQL, "digest": MORE}]);
        event["data"]["supersedes"] = json!({"id": format!("{SQL}{MORE}")});
        event["data"][SQL] = SQL.into();
        event
    };
    // Allowed, unknown, withdrawn, and asked about.
    agent.send(&[hostile(SQL, "send_letter", json!({}))]).await?;
    expect(&mut agent, SQL, Outcome::Succeeded).await?;
    ensure!(
        gate.tools.effects()[0].arguments == json!({SQL: [MORE, {"a": SQL}]}),
        "{:?}",
        gate.tools.effects()
    );
    agent.send(&[hostile("tool", SQL, json!({}))]).await?;
    expect(&mut agent, "tool", Outcome::Denied).await?;
    agent.send(&[withdrawal("one", MORE)]).await?;
    gate.reaches("SELECT count(*) FROM cancellations", 1).await?;
    agent.send(&[hostile(MORE, "send_letter", json!({}))]).await?;
    expect(&mut agent, MORE, Outcome::Cancelled).await?;

    let mut requests = gate.requests("sam", "approvers").await?;
    agent.send(&[hostile("asked", "move_money", json!({"amount": "500"}))]).await?;
    let asked = requests.next().await?;
    ensure!(asked.action.reason.as_deref() == Some(MORE), "{asked:?}");
    let sam = gate.system.signer("sam", "sam")?;
    let reviewer = gate.reviewer("sam").await?;
    let hostile = decision(&asked, Decision::Reject, Some(SQL));
    let mut coded = hostile.clone();
    coded.reason_code = Some(MORE.into());
    // The event's own id, too.
    let signed = statement(&sam, &[coded], Utc::now());
    let mut event = CloudEvent::new(Outgoing::fresh_id(), SQL, kind::APPROVAL_DECIDED, Utc::now(), signed);
    event.id = SQL.into();
    let message = Outgoing::event(DECISIONS, SQL, &event);
    reviewer.sends(&[message, decided(statement(&sam, &[hostile], Utc::now()))]).await?;
    let outcome = expect(&mut agent, "asked", Outcome::Rejected).await?;
    ensure!(outcome.error.is_some_and(|error| error.message == SQL));

    findings(&gate).await?;
    console(&gate).await?;
    ensure!(columns(&gate).await? == before);
    let unapproved = "SELECT count(*) FROM actions WHERE approved";
    ensure!(gate.count(unapproved).await? == 0, "an action is marked approved");
    gate.close().await
}

/// An audit of the hostile letter, with SQL in every text of the finding.
async fn findings(gate: &Gate) -> anyhow::Result<()> {
    let url = gate.system.url("auditor-ada")?;
    let mut audits = Reader::open(url, "test", &audits_queue("auditors")).await?;
    let asked = loop {
        let asked = audits.next::<AuditRequest>(LIMIT).await?.context("no audit request came")?.data;
        // Refused actions are audited, too.
        if asked.action.id == SQL {
            break asked;
        }
    };
    let mut data = finding(&asked, Finding::Wrong, Some(SQL));
    data.correction = Some(json!({"tool": SQL, "arguments": {MORE: SQL}}));
    let ada = gate.system.signer("ada", "ada")?;
    Publisher::connect(url, "test").await?.publish(&[found(&ada, &[data])]).await?;
    gate.reaches("SELECT count(*) FROM findings", 1).await?;
    Ok(())
}

/// SQL in what operators enter at the command line.
async fn console(gate: &Gate) -> anyhow::Result<()> {
    for arguments in [
        vec!["actions", "list", "--agent", SQL],
        vec!["actions", "list", "--tool", MORE],
        vec!["actions", "show", SQL],
        vec!["approvals", "list", "--group", SQL],
        vec!["audits", "list", "--group", MORE],
        vec!["hold", "--tool", "send_letter", "--operator", "olga", "--reason", SQL],
        vec!["erase", "--subject", SQL, "--operator", "olga"],
    ] {
        let (output, _) = gate.cli(&arguments).await?;
        ensure!(!output.contains("syntax error"), "{arguments:?}: {output}");
    }
    let reason = format!("SELECT count(*) FROM holds WHERE reason = '{}'", SQL.replace('\'', "''"));
    gate.reaches(&reason, 1).await
}
