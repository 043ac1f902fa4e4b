//! What a broker accepts from a user and a library would never send.

use std::time::Duration;

use anyhow::ensure;
use countersign_broker::topology::{DECISIONS, FINDINGS};
use countersign_core::{action::Outcome, message::Decision};
use countersign_testkit::{
    raw_amqp::{Name, RawProperties, RawPublisher, nested_arrays, short},
    wait::eventually,
};
use countersign_tests::{Gate, LIMIT, expect};
use serde_json::json;

/// Everybody who may publish: where to, and as whom.
const SENDERS: [(&str, &str); 3] =
    [("countersign.actions.one", "agent-one"), (DECISIONS, "reviewer-sam"), (FINDINGS, "auditor-ada")];

/// Publishes a message, if the broker accepts it. One that it refuses harms nobody.
async fn publish(
    gate: &Gate,
    (exchange, user): (&str, &str),
    routing_key: &[u8],
    properties: &RawProperties,
) -> anyhow::Result<bool> {
    let mut raw = RawPublisher::connect(gate.system.url(user)?).await?;
    raw.publish(exchange, routing_key, properties, b"{}").await
}

/// Waits until as many messages are in quarantine, and checks that every process still works without a restart.
async fn quarantined(gate: &mut Gate, count: i64) -> anyhow::Result<()> {
    gate.reaches("SELECT count(*) FROM quarantine WHERE code = 'unreadable_properties'", count).await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let id = format!("after {count}");
    agent.propose(&id, "move_money", json!({"amount": "500"})).await?;
    let request = requests.next().await?;
    gate.reviewer("sam").await?.decides(&request, Decision::Approve, None).await?;
    expect(&mut agent, &id, Outcome::Succeeded).await?;
    ensure!(gate.system.ended().is_empty(), "ended: {:?}", gate.system.ended());
    for role in ["router", "sampler", "executor"] {
        let log = gate.system.log(role);
        ensure!(!log.contains("lane restarts") && !log.contains("panicked"), "{role}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn deeply_nested_headers_abort_no_process() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    let mut accepted = 0;
    for sender in SENDERS {
        for levels in [100, 5_000, 25_000] {
            let deep = nested_arrays(levels);
            let properties =
                RawProperties::default().with_headers(&deep).with(Name::UserId, sender.1.as_bytes());
            accepted += i64::from(publish(&gate, sender, b"tool", &properties).await?);
        }
    }
    ensure!(accepted > 0, "the broker accepted none of them");
    quarantined(&mut gate, accepted).await?;
    gate.close().await
}

#[tokio::test]
async fn bytes_that_are_not_utf8_close_no_connection() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    let garbled = [
        Name::ContentType,
        Name::ContentEncoding,
        Name::CorrelationId,
        Name::ReplyTo,
        Name::MessageId,
        Name::Type,
        Name::AppId,
        Name::ClusterId,
    ];
    let mut accepted = 0;
    // As many as fit: each is read as a character of three bytes.
    for (sender, bytes) in
        SENDERS.into_iter().flat_map(|sender| [(sender, &[0xFF_u8, 0xFE, 0][..]), (sender, &[0xFF; 255])])
    {
        let user = |properties: RawProperties| properties.with(Name::UserId, sender.1.as_bytes());
        accepted += i64::from(publish(&gate, sender, bytes, &user(RawProperties::default())).await?);
        let header = [short(bytes), b"t\x01".to_vec()].concat();
        accepted += i64::from(
            publish(&gate, sender, b"tool", &user(RawProperties::default().with_headers(&header))).await?,
        );
        for name in garbled {
            let properties = user(RawProperties::default()).with(name, bytes);
            accepted += i64::from(publish(&gate, sender, b"tool", &properties).await?);
        }
    }
    ensure!(accepted >= 3, "the broker accepted only {accepted} of them");
    quarantined(&mut gate, accepted).await?;
    gate.close().await
}

#[tokio::test]
async fn a_tool_that_answers_with_garbage_stops_no_executor() -> anyhow::Result<()> {
    use countersign_testkit::raw_amqp::RawPublisher;
    use futures_util::StreamExt as _;
    use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
    let mut gate = Gate::start().await?;
    let admin = &gate.system.place.amqp_url.clone();
    let connection = super::connect(admin).await?;
    let channel = connection.create_channel().await?;
    let none = lapin::types::FieldTable::default;
    channel.queue_declare("test.tools".into(), QueueDeclareOptions::default(), none()).await?;
    let mut calls = channel
        .basic_consume(
            "test.tools".into(),
            "".into(),
            BasicConsumeOptions { no_ack: true, ..Default::default() },
            none(),
        )
        .await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("garbage", "ask_queue", json!({})).await?;
    // The first answer is nested too deeply and the second is not UTF-8; neither names a request. The third answers.
    let mut answered = 0;
    eventually("the executor calls the tool", LIMIT, async || {
        let Ok(Some(Ok(call))) = tokio::time::timeout(Duration::from_secs(5), calls.next()).await else {
            return None;
        };
        let reply_to = call.properties.reply_to().clone()?;
        let correlation = call.properties.correlation_id().clone()?;
        let mut raw = RawPublisher::connect(admin).await.ok()?;
        let deep = RawProperties::default().with_headers(&nested_arrays(20_000));
        let garbled = RawProperties::default().with(Name::CorrelationId, b"\xff\xfe");
        let good = RawProperties::default().with(Name::CorrelationId, correlation.as_str().as_bytes());
        for (properties, body) in
            [(deep, "{}"), (garbled, "{}"), (good, r#"{"status":"succeeded","result":{"done":true}}"#)]
        {
            let sent =
                raw.publish("", reply_to.as_str().as_bytes(), &properties, body.as_bytes()).await.ok()?;
            answered += u32::from(sent);
        }
        Some(())
    })
    .await?;
    ensure!(answered == 3, "the broker accepted only {answered} answers");
    expect(&mut agent, "garbage", Outcome::Succeeded).await?;
    ensure!(gate.system.ended().is_empty(), "ended: {:?}", gate.system.ended());
    gate.close().await
}
