//! Signatures of decisions: each attempt to decide in another's name is refused, recorded and answered.

use anyhow::{Context as _, ensure};
use chrono::{TimeDelta, Utc};
use countersign_broker::{publisher::Outgoing, reader::Reader, topology::answers_queue};
use countersign_core::{
    action::Outcome,
    message::{ApprovalAnswer, ApprovalRequest, Decision, DecisionData, DecisionResult},
    signed::{SignedStatement, Signer},
};
use countersign_testkit::clients::{Agent, Reviewer, decided, decision, statement};
use countersign_tests::{Gate, LIMIT, expect};
use serde_json::{Value, json};

/// A gate with one open request, and the app through which decisions come.
struct Desk {
    gate: Gate,
    agent: Agent,
    asked: ApprovalRequest,
    answers: Reader,
}

impl Desk {
    /// The app `desk` may speak for sam, not for otto.
    async fn start() -> anyhow::Result<Self> {
        let gate = Gate::start().await?;
        let agent = gate.agent("one").await?;
        let mut requests = gate.requests("sam", "approvers").await?;
        agent.propose("big", "move_money", json!({"amount": "500"})).await?;
        let asked = requests.next().await?;
        let answers = Reader::open(gate.system.url("app-desk")?, "test", &answers_queue("desk")).await?;
        Ok(Self { gate, agent, asked, answers })
    }

    /// Signs for `reviewer` with the key of `owner`.
    fn signer(&self, reviewer: &str, owner: &str) -> anyhow::Result<Signer> {
        self.gate.system.signer(reviewer, owner)
    }

    fn approval(&self) -> DecisionData {
        decision(&self.asked, Decision::Approve, None)
    }

    async fn sends(&self, message: &Outgoing) -> anyhow::Result<()> {
        let url = self.gate.system.url("app-desk")?;
        let desk = Reviewer::connect(url, self.signer("sam", "desk")?).await?;
        desk.sends(std::slice::from_ref(message)).await
    }

    async fn answer(&mut self) -> anyhow::Result<ApprovalAnswer> {
        Ok(self.answers.next::<ApprovalAnswer>(LIMIT).await?.context("no answer came")?.data)
    }

    /// Sends a message and expects that it is refused with `code`, recorded on the action, and executes nothing.
    async fn refused(&mut self, code: &str, message: Outgoing) -> anyhow::Result<()> {
        let before = self.gate.refusals("decision.refused", code).await?;
        self.sends(&message).await?;
        let answer = self.answer().await?;
        ensure!(
            answer.result == DecisionResult::Refused && answer.code.as_deref() == Some(code),
            "{answer:?}"
        );
        ensure!(answer.event.as_deref() == Some(&message.message_id), "{answer:?}");
        ensure!(answer.approval == Some(self.asked.approval) && answer.message.is_some(), "{answer:?}");
        let noted = "SELECT count(*) FROM evidence e JOIN actions a ON a.id = e.action
                     WHERE a.event_id = 'big' AND e.kind = 'decision.refused' AND e.body->>'code' = ";
        let noted = self.gate.count(&format!("{noted}'{code}'")).await?;
        ensure!(noted == before + 1, "{code}: {noted} in the timeline");
        ensure!(self.gate.count("SELECT count(*) FROM actions WHERE state = 'pending_approval'").await? == 1);
        ensure!(self.gate.tools.calls() == 0);
        Ok(())
    }

    async fn refused_statement(&mut self, code: &str, signed: SignedStatement) -> anyhow::Result<()> {
        self.refused(code, decided(signed)).await
    }
}

#[tokio::test]
async fn nobody_decides_in_anothers_name() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    let (approval, now) = (desk.approval(), Utc::now());
    let sign = |signer: &Signer| statement(signer, std::slice::from_ref(&approval), now);
    desk.refused("unsigned", decided(approval.clone())).await?;
    let nobody = desk.signer("nobody", "desk")?;
    desk.refused_statement("reviewer_unknown", sign(&nobody)).await?;
    let otto = desk.signer("otto", "desk")?;
    desk.refused_statement("not_spoken_for", sign(&otto)).await?;
    let wrong = desk.signer("sam", "otto")?;
    desk.refused_statement("key_unknown", sign(&wrong)).await?;

    // Another payload under sam's signature.
    let sam = desk.signer("sam", "sam")?;
    let honest = sign(&sam);
    let rejection = statement(&sam, &[decision(&desk.asked, Decision::Reject, Some("no"))], now);
    let part = |signed: &SignedStatement, index: usize| {
        signed.jws.split('.').nth(index).map(str::to_owned).unwrap_or_default()
    };
    let jws = format!("{}.{}.{}", part(&honest, 0), part(&honest, 1), part(&rejection, 2));
    desk.refused_statement("signature_invalid", SignedStatement { jws, disclosures: vec![] }).await?;
    // The signed reason is not disclosed.
    let hidden = SignedStatement { disclosures: vec![], ..rejection };
    desk.refused_statement("undisclosed", hidden).await?;

    let at =
        |minutes: i64| statement(&sam, std::slice::from_ref(&approval), now + TimeDelta::minutes(minutes));
    desk.refused_statement("stale", at(-11)).await?;
    desk.refused_statement("signed_in_future", at(5)).await?;
    // None of these ended the request. The app's own key may speak for sam.
    let signer = desk.signer("sam", "desk")?;
    desk.sends(&decided(sign(&signer))).await?;
    let answer = desk.answer().await?;
    ensure!(answer.result == DecisionResult::Recorded, "{answer:?}");
    let outcome = expect(&mut desk.agent, "big", Outcome::Succeeded).await?;
    ensure!(outcome.approvers == ["sam"]);
    desk.gate.close().await
}

#[tokio::test]
async fn a_signed_statement_counts_once_and_a_repetition_gets_the_same_answer() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    let sam = desk.signer("sam", "sam")?;
    // It is refused now, and must not count later either.
    let mut other = desk.approval();
    other.digest = format!("sha256:{}", "0".repeat(64));
    let first = decided(statement(&sam, &[other], Utc::now()));
    desk.refused("digest_mismatch", first.clone()).await?;
    // The same message is delivered again: it gets the same answer and leaves no other trace.
    desk.sends(&first).await?;
    ensure!(desk.answer().await?.code.as_deref() == Some("digest_mismatch"));
    ensure!(desk.gate.refusals("decision.refused", "digest_mismatch").await? == 1);
    // The same statement in another message, from the app and from the reviewer.
    let body: Value = serde_json::from_slice(&first.body)?;
    let replay: SignedStatement = serde_json::from_value(body["data"].clone())?;
    desk.refused_statement("replayed", replay.clone()).await?;
    let otto = desk.gate.reviewer("sam").await?;
    otto.sends(&[decided(replay), first]).await?;
    desk.gate.reaches("SELECT count(*) FROM evidence WHERE body->>'code' = 'replayed'", 3).await?;
    ensure!(desk.gate.count("SELECT count(*) FROM statements").await? == 1);
    ensure!(desk.gate.count("SELECT count(*) FROM decisions").await? == 0);
    desk.gate.close().await
}

/// The public part of a key that was generated for the test.
fn public(gate: &Gate, owner: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(gate.system.key_file(owner))?;
    Ok(serde_json::from_str::<Value>(&text)?["x"].as_str().context("a JWK has x")?.to_owned())
}

#[tokio::test]
async fn a_revoked_or_expired_key_never_decides_again_whatever_folder_is_applied() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    let sam = desk.signer("sam", "sam")?;
    let sign = |desk: &Desk| statement(&sam, &[desk.approval()], Utc::now());
    let x = public(&desk.gate, "sam")?;
    let entry = "{id: sam, amqp_user: reviewer-sam, groups: [approvers]";
    let with = |times: &str| format!("{entry}, public_keys: [{{x: {x}{times}}}]");
    desk.gate.apply(entry, &with(", until: '2026-01-01T00:00:00Z'")).await?;
    desk.refused_statement("key_not_valid", sign(&desk)).await?;
    desk.gate.apply(entry, &with(", revoked_at: '2026-01-01T00:00:00Z'")).await?;
    desk.refused_statement("key_revoked", sign(&desk)).await?;
    // The folder does not name sam's key: its registration stays, and so does the revocation.
    desk.gate.apply("agents:", "agents:").await?;
    desk.refused_statement("key_revoked", sign(&desk)).await?;
    // An older folder has the key without the revocation.
    let older = desk.gate.apply(entry, &with("")).await.unwrap_err().to_string();
    ensure!(older.contains("was revoked before"), "{older}");
    let older =
        desk.gate.apply(entry, &with(", revoked_at: '2099-01-01T00:00:00Z'")).await.unwrap_err().to_string();
    ensure!(older.contains("was revoked before"), "{older}");
    desk.refused_statement("key_revoked", sign(&desk)).await?;
    desk.gate.close().await
}

#[tokio::test]
async fn approvals_signed_before_a_key_was_revoked_no_longer_count() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("rob", "risk").await?;
    agent.propose("p-1", "pay", json!({"amount": "500"})).await?;
    let asked = requests.next().await?;
    for who in ["tara", "tom"] {
        gate.reviewer(who).await?.decides(&asked, Decision::Approve, None).await?;
    }
    gate.reaches("SELECT count(*) FROM decisions", 2).await?;
    // Tara's key was stolen; she gets another one.
    let other = gate.system.key_file("tara-2");
    let (output, ok) = gate.cli(&["keys", "signer", &other.display().to_string()]).await?;
    ensure!(ok && output.contains("public_keys: ["), "{output}");
    let keys = format!(
        "amqp_user: reviewer-tara\n    public_keys: [{{x: {}, revoked_at: '2026-01-01T00:00:00Z'}}, {}]",
        public(&gate, "tara")?,
        public(&gate, "tara-2")?
    );
    gate.apply("amqp_user: reviewer-tara", &keys).await?;
    gate.reviewer("rob").await?.decides(&asked, Decision::Approve, None).await?;
    gate.reaches("SELECT count(*) FROM decisions", 3).await?;
    ensure!(gate.count("SELECT count(*) FROM approvals WHERE state = 'open'").await? == 1);
    ensure!(gate.tools.calls() == 0, "the thief's approval counted");
    let tara = Reviewer::connect(gate.system.url("reviewer-tara")?, gate.system.signer("tara", "tara-2")?);
    tara.await?.decides(&asked, Decision::Approve, None).await?;
    let outcome = expect(&mut agent, "p-1", Outcome::Succeeded).await?;
    ensure!(outcome.approvers == ["rob", "tara", "tom"], "{:?}", outcome.approvers);
    gate.close().await
}

#[tokio::test]
async fn decisions_in_one_message_are_checked_independently() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    let mut requests = desk.gate.requests("mara", "approvers").await?;
    let mut all = vec![desk.approval()];
    for id in ["wrong", "right"] {
        desk.agent.propose(id, "move_money", json!({"amount": "600"})).await?;
        all.push(decision(&requests.next().await?, Decision::Approve, None));
    }
    all[1].digest = format!("sha256:{}", "0".repeat(64));
    let unknown =
        DecisionData { approval: countersign_core::ids::ApprovalId(uuid::Uuid::now_v7()), ..desk.approval() };
    all.push(unknown);
    let sam = desk.signer("sam", "desk")?;
    desk.sends(&decided(statement(&sam, &all, Utc::now()))).await?;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(desk.answer().await?);
    }
    let codes: Vec<_> = answers.iter().map(|answer| answer.code.as_deref()).collect();
    ensure!(codes == [None, Some("digest_mismatch"), None, Some("approval_unknown")], "{codes:?}");
    ensure!(answers.iter().zip(&all).all(|(answer, data)| answer.approval == Some(data.approval)));
    for _ in 0..2 {
        let outcome = countersign_tests::answer(&mut desk.agent).await?;
        ensure!(outcome.outcome == Outcome::Succeeded && outcome.action.id != "wrong");
    }
    // Too many decisions, or none.
    desk.sends(&decided(statement(&sam, &vec![all[1].clone(); 101], Utc::now()))).await?;
    for _ in 0..100 {
        ensure!(desk.answer().await?.code.as_deref() == Some("decision_count"));
    }
    desk.sends(&decided(statement::<DecisionData>(&sam, &[], Utc::now()))).await?;
    let answer = desk.answer().await?;
    ensure!(answer.code.as_deref() == Some("decision_count") && answer.approval.is_none(), "{answer:?}");
    ensure!(desk.gate.tools.calls() == 2);
    desk.gate.close().await
}

#[tokio::test]
async fn an_unreadable_decision_is_quarantined_and_answered() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    for (code, body) in [
        ("not_json", b"approve it".to_vec()),
        ("duplicate_key", br#"{"id": "1", "id": "2"}"#.to_vec()),
        ("unknown_type", decided(json!({})).body.replace_kind()),
        ("invalid_decision", decided(json!({"jws": "a.b.c"})).body),
        ("invalid_decision", decided(json!({"jws": 5})).body),
        ("invalid_decision", decided(json!({"decision": "approve"})).body),
        ("message_too_large", vec![b' '; 300 * 1024]),
    ] {
        let message = Outgoing { body, ..decided(json!({})) };
        desk.sends(&message).await?;
        let answer = desk.answer().await?;
        ensure!(answer.code.as_deref() == Some(code), "{code}: {answer:?}");
    }
    ensure!(desk.gate.count("SELECT count(*) FROM quarantine").await? == 7);
    ensure!(desk.gate.tools.calls() == 0);
    desk.gate.close().await
}

trait ReplaceKind {
    fn replace_kind(self) -> Vec<u8>;
}

impl ReplaceKind for Vec<u8> {
    /// The next major version.
    fn replace_kind(self) -> Vec<u8> {
        String::from_utf8_lossy(&self).replace("decided.v1", "decided.v2").into_bytes()
    }
}
