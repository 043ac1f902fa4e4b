//! Messages without author or with copies, and decisions about another action.

use anyhow::{Context as _, ensure};
use chrono::Utc;
use countersign_broker::{
    publisher::Outgoing,
    reader::Reader,
    topology::{DECISIONS, EXECUTION, FINDINGS, answers_queue},
};
use countersign_core::{
    action::Outcome,
    ids::AuditId,
    message::{ApprovalAnswer, Decision, DecisionData, DecisionResult, Finding, FindingData},
    signed::{SignedStatement, Signer},
};
use countersign_testkit::clients::{Reviewer, decided, decision, found, proposal, statement};
use countersign_tests::{Gate, LIMIT, expect};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{connect, publish};

fn headers(name: &str) -> FieldTable {
    let copies: FieldArray = vec![AMQPValue::LongString("countersign.execution".into())].into();
    let mut headers = FieldTable::default();
    headers.insert(name.into(), AMQPValue::FieldArray(copies));
    headers
}

#[tokio::test]
async fn messages_without_author_or_with_copies_are_refused_at_every_ingress() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    agent.propose("big", "move_money", json!({"amount": "500"})).await?;
    let asked = requests.next().await?;
    let sam = gate.system.signer("sam", "sam")?;
    let approval = || decided(statement(&sam, &[decision(&asked, Decision::Approve, None)], Utc::now()));
    let ada = gate.system.signer("ada", "ada")?;
    let judged = FindingData::new(AuditId(Uuid::now_v7()), &asked.digest, Finding::Correct);
    let small = proposal("one", "small", "write_record", json!({"n": 1})).to_string().into_bytes();

    for (exchange, user, other, body) in [
        ("countersign.actions.one", "agent-one", "agent-two", small),
        (DECISIONS, "reviewer-sam", "reviewer-mara", approval().body),
        (FINDINGS, "auditor-ada", "auditor-ben", found(&ada, &[judged]).body),
    ] {
        let connection = connect(gate.system.url(user)?).await?;
        let own = BasicProperties::default().with_user_id(user.into());
        let quarantined = |code: &str| {
            format!("SELECT count(*) FROM quarantine WHERE exchange = '{exchange}' AND code = '{code}'")
        };
        // The broker itself refuses another user's name.
        for forged in [other, "countersign-router", "guest", ""] {
            let channel = connection.create_channel().await?;
            let properties = BasicProperties::default().with_user_id(forged.into());
            let tried = publish(&channel, (exchange, "x"), properties, &body).await;
            ensure!(tried.is_err(), "{user} published to {exchange} as {forged:?}");
        }
        let channel = connection.create_channel().await?;
        publish(&channel, (exchange, "x"), BasicProperties::default(), &body).await?;
        gate.reaches(&quarantined("author_missing"), 1).await?;
        // Brokers ignore the lower-case spelling today; it is refused all the same.
        for name in ["CC", "cc"] {
            publish(&channel, (exchange, "x"), own.clone().with_headers(headers(name)), &body).await?;
        }
        gate.reaches(&quarantined("copied"), 2).await?;
    }
    ensure!(gate.count("SELECT count(*) FROM quarantine").await? == 9);
    ensure!(gate.count("SELECT count(*) FROM decisions").await? == 0);
    ensure!(gate.count("SELECT count(*) FROM actions WHERE state = 'pending_approval'").await? == 1);
    ensure!(gate.count("SELECT count(*) FROM actions").await? == 1 && gate.tools.calls() == 0);

    // An operator's replay of a copied decision is refused as well.
    let copied = "SELECT count(*) FROM quarantine WHERE code = 'copied'";
    let of = copied.replace("count(*)", "min(id)") + &format!(" AND exchange = '{DECISIONS}'");
    let id = gate.count(&of).await?;
    let (output, ok) = gate.cli(&["quarantine", "replay", &id.to_string()]).await?;
    ensure!(ok, "{output}");
    gate.reaches(copied, 7).await?;
    ensure!(gate.tools.calls() == 0);
    gate.close().await
}

#[tokio::test]
async fn a_blind_copy_reaches_nobody_else() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    // The broker removes the header, so it cannot be detected. It only adds routing keys within the same exchange, and each
    // exchange that people may write to routes everything to one queue anyway.
    let connection = connect(gate.system.url("agent-one")?).await?;
    let channel = connection.create_channel().await?;
    let properties = BasicProperties::default().with_user_id("agent-one".into()).with_headers(headers("BCC"));
    for (id, amount) in [("small", "5"), ("big", "500")] {
        let body = proposal("one", id, "move_money", json!({"amount": amount})).to_string();
        publish(&channel, ("countersign.actions.one", "x"), properties.clone(), body.as_bytes()).await?;
    }
    expect(&mut agent, "small", Outcome::Succeeded).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'pending_approval'", 1).await?;
    ensure!(gate.count("SELECT count(*) FROM quarantine").await? == 0);
    ensure!(gate.count("SELECT count(*) FROM actions").await? == 2 && gate.tools.calls() == 1);
    gate.close().await
}

#[tokio::test]
async fn an_executor_that_publishes_to_queues_by_name_decides_nothing() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    agent.propose("big", "move_money", json!({"amount": "500"})).await?;
    let asked = requests.next().await?;
    let (sam, ada) = (gate.system.signer("sam", "sam")?, gate.system.signer("ada", "ada")?);
    let judged = FindingData::new(AuditId(Uuid::now_v7()), &asked.digest, Finding::Correct);
    // Correctly signed but sent by the wrong user. It cannot sign a permit at all.
    let bodies = [
        (
            "countersign.actions.one",
            proposal("one", "small", "write_record", json!({"n": 1})).to_string().into_bytes(),
        ),
        (DECISIONS, decided(statement(&sam, &[decision(&asked, Decision::Approve, None)], Utc::now())).body),
        (FINDINGS, found(&ada, &[judged]).body),
        (EXECUTION, proposal("one", "x", "move_money", json!({"amount": "5"})).to_string().into_bytes()),
    ];
    let connection = connect(gate.system.url("countersign-executor")?).await?;
    let channel = connection.create_channel().await?;
    let own = BasicProperties::default().with_user_id("countersign-executor".into());
    for (queue, body) in &bodies {
        publish(&channel, ("", queue), own.clone(), body).await?;
    }
    gate.reaches("SELECT count(*) FROM quarantine WHERE exchange = ''", bodies.len() as i64).await?;
    ensure!(gate.refusals("permit.refused", "permit_malformed").await? == 1);
    ensure!(gate.count("SELECT count(*) FROM decisions").await? == 0);
    ensure!(gate.count("SELECT count(*) FROM actions WHERE state = 'pending_approval'").await? == 1);
    ensure!(gate.count("SELECT count(*) FROM actions").await? == 1 && gate.tools.calls() == 0);
    gate.close().await
}

/// A gate with two open requests, one to move 500 and one to move 600.
struct Desk {
    gate: Gate,
    sam: Signer,
    answers: Reader,
}

impl Desk {
    async fn sends(&mut self, message: Outgoing) -> anyhow::Result<ApprovalAnswer> {
        let url = self.gate.system.url("reviewer-sam")?;
        Reviewer::connect(url, self.sam.clone()).await?.sends(&[message]).await?;
        Ok(self.answers.next::<ApprovalAnswer>(LIMIT).await?.context("no answer came")?.data)
    }

    async fn submit(&mut self, data: DecisionData) -> anyhow::Result<ApprovalAnswer> {
        let statement = statement(&self.sam, &[data], Utc::now());
        self.sends(decided(statement)).await
    }

    async fn refused(&mut self, code: &str, data: DecisionData) -> anyhow::Result<()> {
        let answer = self.submit(data).await?;
        ensure!(answer.code.as_deref() == Some(code), "{code}: {answer:?}");
        ensure!(self.gate.count("SELECT count(*) FROM decisions").await? == 0, "{code}");
        ensure!(self.gate.tools.calls() == 0, "{code}");
        Ok(())
    }
}

#[tokio::test]
async fn a_decision_on_one_action_decides_no_other() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    agent.propose("small", "move_money", json!({"amount": "500"})).await?;
    let small = requests.next().await?;
    agent.propose("large", "move_money", json!({"amount": "600"})).await?;
    let large = requests.next().await?;
    let sam = gate.system.signer("sam", "sam")?;
    let answers = Reader::open(gate.system.url("reviewer-sam")?, "test", &answers_queue("sam")).await?;
    let mut desk = Desk { gate, sam, answers };

    let approve = |asked| decision(asked, Decision::Approve, None);
    // The digest of one with the id of the other, and texts that nearly equal the digest.
    desk.refused("digest_mismatch", DecisionData { approval: large.approval, ..approve(&small) }).await?;
    desk.refused("digest_mismatch", DecisionData { approval: small.approval, ..approve(&large) }).await?;
    for digest in [
        String::new(),
        small.digest.to_uppercase(),
        small.digest.replacen("sha256:", "sha256:+", 1),
        small.digest[..70].to_owned(),
        format!("{}0", small.digest),
    ] {
        desk.refused("digest_mismatch", DecisionData { digest, ..approve(&small) }).await?;
    }
    // A finding signed with the same key is not a decision.
    let finding = FindingData::new(AuditId(small.approval.0), &small.digest, Finding::Correct);
    let answer = desk.sends(decided(statement(&desk.sam, &[finding], Utc::now()))).await?;
    ensure!(answer.code.as_deref() == Some("invalid_decision"), "{answer:?}");
    // Nor is a truncated one.
    let whole = statement(&desk.sam, &[approve(&small)], Utc::now());
    for at in [0, 10, whole.jws.len() / 2, whole.jws.len() - 1] {
        let cut = SignedStatement { jws: whole.jws[..at].to_owned(), disclosures: vec![] };
        let answer = desk.sends(decided(cut)).await?;
        let code = answer.code.as_deref().unwrap_or_default();
        ensure!(["invalid_decision", "signature_invalid"].contains(&code), "cut at {at}: {answer:?}");
    }

    let answer = desk.sends(decided(whole.clone())).await?;
    ensure!(answer.result == DecisionResult::Recorded, "{answer:?}");
    expect(&mut agent, "small", Outcome::Succeeded).await?;
    // Sent again in another event, and signed again after the action has ended.
    let answer = desk.sends(decided(whole)).await?;
    ensure!(answer.code.as_deref() == Some("replayed"), "{answer:?}");
    let answer = desk.submit(approve(&small)).await?;
    ensure!(answer.result != DecisionResult::Recorded, "{answer:?}");
    let effects = desk.gate.tools.effects();
    ensure!(effects.len() == 1 && effects[0].arguments == json!({"amount": "500"}), "{effects:?}");
    ensure!(desk.gate.count("SELECT count(*) FROM actions WHERE state = 'pending_approval'").await? == 1);
    desk.gate.close().await
}

#[tokio::test]
async fn what_a_human_is_shown_is_what_runs_byte_for_byte() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    // Some JSON readers replace this object by the JSON in its text: it would be shown as 5 and sent as something else.
    let trick = json!({"amount": "500", "note": {"$serde_json::private::RawValue": "5"}});
    agent.propose("trick", "move_money", trick).await?;
    let outcome = expect(&mut agent, "trick", Outcome::Denied).await?;
    ensure!(outcome.error.is_some_and(|error| error.code == "reserved_key"));
    // Unusual spellings of numbers, and keys out of order.
    let body = proposal("one", "spelt", "move_money", json!({"amount": "A", "n": "B", "é": []})).to_string();
    let body = body.replace("\"A\"", "5.0e2").replace("\"B\"", "-0.0");
    agent.send_raw(&[body.into_bytes()]).await?;
    // An amount that is neither an integer nor a string goes to the rule for errors; 500 goes to its own rule.
    let asked = requests.next().await?;
    ensure!(asked.why.rule == "large", "{asked:?}");
    let shown = asked.action.arguments.get().to_owned();
    ensure!(shown == "{\"amount\":500,\"n\":0,\"é\":[]}", "{shown}");
    let (output, ok) = gate.cli(&["approvals", "show", &asked.approval.to_string()]).await?;
    ensure!(ok);
    let output: Value = serde_json::from_str(&output)?;
    ensure!(output["content"]["arguments"] == serde_json::from_str::<Value>(&shown)?, "{output}");
    sam.decides(&asked, Decision::Approve, None).await?;
    expect(&mut agent, "spelt", Outcome::Succeeded).await?;
    let effects = gate.tools.effects();
    ensure!(
        effects.len() == 1 && effects[0].arguments == serde_json::from_str::<Value>(&shown)?,
        "{effects:?}"
    );
    gate.close().await
}
