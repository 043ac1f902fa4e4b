//! Bad input is refused with a clear reason, affects nothing else and stays visible.

use anyhow::ensure;
use countersign_core::action::Outcome;
use countersign_testkit::clients::proposal;
use countersign_tests::{Gate, answer, expect};
use lapin::{
    BasicProperties,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldArray, FieldTable},
};
use serde_json::{Value, json};

fn edited(id: &str, edit: impl Fn(&mut Value)) -> Vec<u8> {
    let mut event = proposal("one", id, "write_record", json!({"n": 1}));
    edit(&mut event);
    event.to_string().into_bytes()
}

#[tokio::test]
async fn bad_input_with_an_author_is_denied_and_the_rest_is_quarantined() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let deep = format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000));
    let nested =
        String::from_utf8(edited("nested", |_| {}))?.replace("{\"n\":1}", &format!("{{\"n\":{deep}}}"));
    let twice = String::from_utf8(edited("twice", |_| {}))?.replace("{\"n\":1}", "{\"n\":1,\"n\":2}");
    let denied: Vec<(&str, &str, Vec<u8>)> = vec![
        ("tool", "unknown_tool", edited("tool", |e| e["data"]["tool"] = "no_such".into())),
        (
            "arguments",
            "invalid_arguments",
            edited("arguments", |e| e["data"]["arguments"] = json!({"n": "x"})),
        ),
        (
            "missing",
            "invalid_proposal",
            edited("missing", |e| drop(e["data"].as_object_mut().unwrap().remove("tool"))),
        ),
        ("agent", "agent_mismatch", edited("agent", |e| e["data"]["agent"]["id"] = "two".into())),
        ("huge", "message_too_large", edited("huge", |e| e["data"]["reason"] = "x".repeat(300_000).into())),
        (
            "integer",
            "integer_out_of_range",
            edited("integer", |e| e["data"]["arguments"]["n"] = json!(9_007_199_254_740_993_i64)),
        ),
        ("nested", "nested_too_deeply", nested.into_bytes()),
        ("twice", "duplicate_key", twice.into_bytes()),
        ("forbidden", "policy", edited("forbidden", |e| e["data"]["tool"] = "forbidden".into())),
        ("old", "proposal_too_old", edited("old", |e| e["time"] = "2020-01-01T00:00:00Z".into())),
    ];
    for (id, code, body) in &denied {
        agent.send_raw(std::slice::from_ref(body)).await?;
        let outcome = expect(&mut agent, id, Outcome::Denied).await?;
        let error = outcome.error.expect("a denial says why");
        ensure!(error.code == *code, "{id}: {error:?}");
    }
    let quarantined: Vec<(&str, Vec<u8>)> = vec![
        ("not_json", b"\xff\xfenot json".to_vec()),
        ("unknown_type", edited("v2", |e| e["type"] = "countersign.action.proposed.v2".into())),
        ("source_forged", edited("forged", |e| e["source"] = "/agents/two".into())),
        ("invalid_envelope", edited("", |_| {})),
        ("duplicate_id", edited("tool", |e| e["data"]["arguments"] = json!({"n": 7}))),
    ];
    for (code, body) in &quarantined {
        agent.send_raw(std::slice::from_ref(body)).await?;
        gate.reaches(&format!("SELECT count(*) FROM quarantine WHERE code = '{code}'"), 1).await?;
    }
    // None of it affects the next good action.
    agent.propose("good", "write_record", json!({"n": 1})).await?;
    expect(&mut agent, "good", Outcome::Succeeded).await?;
    ensure!(gate.tools.calls() == 1);
    let (list, _) = gate.cli(&["quarantine", "list", "--json"]).await?;
    let list: Vec<Value> = serde_json::from_str(&list)?;
    ensure!(list.len() == quarantined.len() && list.iter().all(|entry| entry["author"] == "agent-one"));
    gate.close().await
}

#[tokio::test]
async fn a_message_without_author_or_with_copies_is_quarantined() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let session = countersign_broker::session::Session::open(gate.system.url("agent-one")?, "raw").await?;
    let body = edited("x", |_| {});
    let mut headers = FieldTable::default();
    let copies: FieldArray = vec![AMQPValue::LongString("countersign.execution".into())].into();
    headers.insert("CC".into(), AMQPValue::FieldArray(copies));
    let anonymous = BasicProperties::default();
    let copied = BasicProperties::default().with_user_id("agent-one".into()).with_headers(headers);
    for properties in [anonymous, copied] {
        let options = BasicPublishOptions::default();
        session
            .channel
            .basic_publish("countersign.actions.one".into(), "t".into(), options, &body, properties)
            .await?
            .await?;
    }
    gate.reaches("SELECT count(*) FROM quarantine WHERE code IN ('author_missing', 'copied')", 2).await?;
    ensure!(gate.count("SELECT count(*) FROM actions").await? == 0 && gate.tools.calls() == 0);
    gate.close().await
}

#[tokio::test]
async fn an_id_repeated_in_one_batch_is_a_duplicate_or_a_conflict() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    // Messages queued for a stopped router form one batch.
    gate.system.kill("router")?;
    let again = edited("same", |_| {});
    let other = edited("same", |e| e["data"]["arguments"] = json!({"n": 2}));
    agent.send_raw(&[again.clone(), again, other]).await?;
    gate.system.start("router", "router")?;
    expect(&mut agent, "same", Outcome::Succeeded).await?;
    gate.reaches("SELECT count(*) FROM quarantine WHERE code = 'duplicate_id'", 1).await?;
    let refused =
        "SELECT count(*) FROM evidence WHERE kind = 'proposal.refused' AND id > (SELECT min(id) FROM evidence
                     WHERE kind = 'action.evaluated')";
    ensure!(gate.count(refused).await? == 1, "recorded on the action, after its evaluation");
    ensure!(gate.count("SELECT count(*) FROM actions").await? == 1 && gate.tools.calls() == 1);
    gate.close().await
}

#[tokio::test]
async fn a_poisonous_value_does_not_block_its_batch() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut bodies: Vec<Vec<u8>> = (0..20)
        .map(|n| proposal("one", &format!("n-{n}"), "write_record", json!({"n": n})).to_string().into_bytes())
        .collect();
    // NUL in free text is legal in JSON and illegal in PostgreSQL's text.
    bodies.insert(10, edited("nul", |e| e["data"]["reason"] = "a\u{0}b".into()));
    agent.send_raw(&bodies).await?;
    for _ in 0..21 {
        ensure!(answer(&mut agent).await?.outcome == Outcome::Succeeded);
    }
    gate.close().await
}

#[tokio::test]
async fn a_replayed_message_keeps_its_author() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let agent = gate.agent("two").await?;
    // Agent one is spoofed by agent two: replaying does not make it agent one's.
    agent.send_raw(&[edited("spoof", |_| {})]).await?;
    gate.reaches("SELECT count(*) FROM quarantine", 1).await?;
    let id = gate.count("SELECT id FROM quarantine").await?.to_string();
    let (output, ok) = gate.cli(&["quarantine", "replay", &id]).await?;
    ensure!(ok, "{output}");
    ensure!(gate.count("SELECT count(*) FROM quarantine WHERE code = 'source_forged'").await? == 2);
    ensure!(gate.tools.calls() == 0);
    gate.close().await
}
