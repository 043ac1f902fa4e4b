//! What is executed, how often, and which outcomes agents receive.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use countersign_broker::{publisher::Publisher, reader::Reader, session::Session};
use countersign_core::{
    action::Outcome,
    ids::ActionId,
    message::{AuditReason, AuditRequest, Finding, FindingData, Resolution},
    verdict::Verdict,
};
use countersign_store::sweeps::{self, SWEEP_MAX};
use countersign_testkit::{
    clients::{finding, found, proposal},
    wait::eventually,
};
use countersign_tests::{AMPLE, Gate, LIMIT, all_succeed, answer, expect, with_quotas};
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};
use serde_json::{Value, json};
use tokio::time::timeout;

#[tokio::test]
async fn an_allowed_action_is_executed_once_and_a_repetition_gets_the_stored_outcome() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let event = proposal("one", "a-1", "move_money", json!({"amount": "10"}));
    agent.send(&[event.clone(), event.clone()]).await?;
    let first = expect(&mut agent, "a-1", Outcome::Succeeded).await?;
    ensure!(first.verdict == Verdict::Allow && first.rule == "allowed" && first.policy_version == "test-1");
    ensure!(first.result.is_some_and(|result| result.get().contains("\"10\"")));
    agent.send(&[event]).await?;
    expect(&mut agent, "a-1", Outcome::Succeeded).await?;
    ensure!(gate.tools.calls() == 1, "{} calls", gate.tools.calls());
    gate.reaches("SELECT count(*) FROM sampling", 1).await?;
    let kinds = "SELECT count(DISTINCT kind) FROM evidence WHERE kind IN
                 ('action.evaluated', 'action.claimed', 'action.completed', 'action.sampled')";
    ensure!(gate.count(kinds).await? == 4);
    let forgotten = "SELECT count(*) FROM evidence e
                     WHERE NOT EXISTS (SELECT FROM evidence_pending p WHERE e.id = ANY (p.evidence))
                       AND NOT EXISTS (SELECT FROM ledger l WHERE l.evidence = e.id)";
    ensure!(gate.count(forgotten).await? == 0, "every row is in the ledger or pending");
    gate.close().await
}

#[tokio::test]
async fn every_executed_action_has_one_draw_and_every_selected_one_an_audit() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let events: Vec<Value> =
        (0..300).map(|n| proposal("one", &format!("n-{n}"), "write_record", json!({"n": n}))).collect();
    agent.send(&events).await?;
    for _ in 0..300 {
        ensure!(answer(&mut agent).await?.outcome == Outcome::Succeeded);
    }
    gate.reaches("SELECT count(*) FROM sampling", 300).await?;
    let unfair =
        "SELECT count(*) FROM sampling s WHERE selected <> (r >= ceil((1 - pi) * 72057594037927936::float8))
                  OR pi <> 0.1 OR selected <> EXISTS (SELECT FROM audits WHERE action = s.action)";
    ensure!(gate.count(unfair).await? == 0);
    let selected = gate.count("SELECT count(*) FROM sampling WHERE selected").await?;
    // 30 expected; outside this range in less than one of a million runs.
    ensure!((8..=60).contains(&selected), "{selected} selected");
    gate.close().await
}

#[tokio::test]
async fn a_sampler_that_is_away_neither_repeats_an_outcome_nor_loses_a_draw() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    gate.system.kill("sampler")?;
    let mut agent = gate.agent("one").await?;
    for id in ["a-1", "a-2"] {
        agent.propose(id, "write_record", json!({"n": 1})).await?;
        expect(&mut agent, id, Outcome::Succeeded).await?;
    }
    // Twice `unanswered_after`.
    gate.reaches("SELECT count(*) FROM actions WHERE ended_at < now() - interval '4 seconds'", 2).await?;
    agent.propose("a-3", "write_record", json!({"n": 1})).await?;
    expect(&mut agent, "a-3", Outcome::Succeeded).await?;
    // An executor that is killed before the broker confirms an outcome leaves this row; the outcome is published again.
    let client = gate.system.store()?.client().await?;
    let killed = "INSERT INTO pending_notifications (actions, stored_at)
                  SELECT array_agg(id), now() - interval '1 minute' FROM actions WHERE event_id = 'a-2'";
    client.batch_execute(killed).await?;
    expect(&mut agent, "a-2", Outcome::Succeeded).await?;
    gate.reaches("SELECT 1 - count(*) FROM pending_notifications", 1).await?;
    // Nor does the sampler depend on its queued packs.
    let session = Session::open(&gate.system.place.amqp_url, "test").await?;
    session.channel.queue_purge("countersign.settled".into(), QueuePurgeOptions::default()).await?;
    gate.system.start("sampler", "sampler")?;
    gate.reaches("SELECT count(*) FROM sampling", 3).await?;
    gate.close().await
}

#[tokio::test]
async fn an_executor_resumes_claiming_after_its_claims_were_refused() -> anyhow::Result<()> {
    let config = with_quotas(AMPLE)?;
    let mut gate = Gate::configured(config.path()).await?;
    gate.system.kill("executor")?;
    let client = gate.system.store()?.client().await?;
    client.batch_execute("REVOKE INSERT ON evidence FROM countersign_executor").await?;
    let mut agent = gate.agent("one").await?;
    // More actions than the executor has call slots: it waits for all of them to become free, repeatedly.
    let count = 700;
    let events: Vec<Value> =
        (0..count).map(|n| proposal("one", &format!("n-{n}"), "write_record", json!({"n": n}))).collect();
    agent.send(&events).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'authorised'", count).await?;
    gate.system.start("executor", "executor")?;
    eventually("claims have been refused several times", LIMIT, async || {
        (gate.system.log("executor").matches("lane restarts").count() >= 6).then_some(())
    })
    .await?;
    client.batch_execute("GRANT INSERT ON evidence TO countersign_executor").await?;
    all_succeed(&mut agent, usize::try_from(count)?).await?;
    gate.close().await
}

#[tokio::test]
async fn an_unanswered_call_of_a_tool_without_idempotency_is_in_doubt_until_a_human_resolves_it()
-> anyhow::Result<()> {
    let gate = Gate::acting(|tool: &str, _: &Value| match tool {
        "send_letter" => Err((500, "perhaps".into())),
        _ => Ok(Value::Null),
    })
    .await?;
    let mut agent = gate.agent("one").await?;
    let auditor = gate.system.url("auditor-ada")?;
    let mut audits = Reader::open(auditor, "test", "countersign.audits.auditors").await?;
    agent.propose("letter", "send_letter", json!({})).await?;
    let doubt = expect(&mut agent, "letter", Outcome::InDoubt).await?;
    ensure!(doubt.error.is_some_and(|error| error.code == "http_500"));
    let request = audits.next::<AuditRequest>(LIMIT).await?.expect("no audit request came").data;
    ensure!(request.reason == AuditReason::InDoubt);
    let ada = gate.system.signer("ada", "ada")?;
    let finding = |resolution| FindingData { resolution, ..finding(&request, Finding::Correct, None) };
    let publisher = Publisher::connect(auditor, "auditor").await?;
    // A finding without a resolution does not count.
    publisher.publish(&[found(&ada, &[finding(None)])]).await?;
    publisher.publish(&[found(&ada, &[finding(Some(Resolution::Succeeded))])]).await?;
    expect(&mut agent, "letter", Outcome::Succeeded).await?;
    ensure!(gate.refusals("finding.refused", "resolution_missing").await? == 1);
    ensure!(gate.tools.calls() == 1, "never repeated");
    gate.close().await
}

/// A tool service behind a queue, which answers when the test tells it to.
struct QueuedTool {
    consumer: lapin::Consumer,
    session: Session,
}

impl QueuedTool {
    /// Declares only the queue, as if the service were down.
    async fn declared(gate: &Gate) -> anyhow::Result<Session> {
        let session = Session::open(&gate.system.place.amqp_url, "tool").await?;
        let queue = QueueDeclareOptions { durable: true, ..Default::default() };
        session.channel.queue_declare("test.tools".into(), queue, FieldTable::default()).await?;
        Ok(session)
    }

    async fn start(gate: &Gate) -> anyhow::Result<Self> {
        let session = Self::declared(gate).await?;
        let channel = &session.channel;
        let consume = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume("test.tools".into(), "".into(), consume, FieldTable::default()).await?;
        Ok(Self { consumer, session })
    }

    async fn request(&mut self) -> anyhow::Result<lapin::message::Delivery> {
        let request = timeout(LIMIT, self.consumer.next()).await?.context("the queue is gone")??;
        request.ack(BasicAckOptions::default()).await?;
        Ok(request)
    }

    async fn reply(&self, request: &lapin::message::Delivery, reply: &Value) -> anyhow::Result<()> {
        let correlation = request.properties.correlation_id().clone().context("no correlation_id")?;
        self.reply_as(request, correlation.as_str(), reply).await
    }

    /// Sends a reply to where those to `request` go, with this correlation id.
    async fn reply_as(
        &self,
        request: &lapin::message::Delivery,
        correlation: &str,
        reply: &Value,
    ) -> anyhow::Result<()> {
        let reply_to = request.properties.reply_to().clone().context("no reply_to")?;
        let properties = BasicProperties::default().with_correlation_id(correlation.into());
        let body = reply.to_string();
        let options = BasicPublishOptions::default();
        self.session.channel.basic_publish("".into(), reply_to, options, body.as_bytes(), properties).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_tool_service_behind_a_queue_is_called_with_the_idempotency_key() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut tool = QueuedTool::start(&gate).await?;
    agent.propose("q-1", "ask_queue", json!({"question": 1})).await?;
    let request = tool.request().await?;
    let key = request.properties.message_id().clone().context("no key")?;
    ensure!(key.as_str().parse::<uuid::Uuid>().is_ok() && request.data == br#"{"question":1}"#);
    tool.reply(&request, &json!({"status": "succeeded", "result": {"answer": 42}})).await?;
    let outcome = expect(&mut agent, "q-1", Outcome::Succeeded).await?;
    ensure!(outcome.result.is_some_and(|result| result.get() == r#"{"answer":42}"#));
    gate.close().await
}

#[tokio::test]
async fn only_who_has_received_a_request_can_reply_to_it() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut tool = QueuedTool::start(&gate).await?;
    let mut requests = Vec::new();
    for id in ["q-1", "q-2"] {
        agent.propose(id, "ask_queue", json!({"question": id})).await?;
        requests.push(tool.request().await?);
    }
    let [first, second] = requests.as_slice() else { anyhow::bail!("two requests") };
    // Another service has received the first request: it knows where replies go, and what has been public since.
    let correlation = |of: &lapin::message::Delivery| of.properties.correlation_id().clone();
    let known = correlation(first).context("no correlation_id")?.to_string();
    let wanted = correlation(second).context("no correlation_id")?.to_string();
    let same = known.bytes().zip(wanted.bytes()).filter(|(a, b)| a == b).count();
    ensure!(wanted.len() == 32 && same < 16, "{wanted:?} can be guessed from {known:?}");
    let key = second.properties.message_id().clone().context("no key")?;
    let now = uuid::Uuid::now_v7().to_string();
    let guesses = ["", "q-2", key.as_str(), &now, &known[..16], &known.to_uppercase(), "/agents/one#q-2"];
    for guess in guesses {
        tool.reply_as(first, guess, &json!({"status": "failed", "code": "forged"})).await?;
    }
    // Nor does a second reply to the first request reach the second, or the first one's agent.
    tool.reply(first, &json!({"status": "succeeded", "result": 1})).await?;
    tool.reply(first, &json!({"status": "failed", "code": "forged"})).await?;
    expect(&mut agent, "q-1", Outcome::Succeeded).await?;
    tool.reply(second, &json!({"status": "succeeded", "result": 2})).await?;
    let outcome = expect(&mut agent, "q-2", Outcome::Succeeded).await?;
    ensure!(outcome.result.is_some_and(|result| result.get() == "2"));
    gate.close().await
}

#[tokio::test]
async fn a_service_that_was_away_does_not_receive_expired_requests() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    QueuedTool::declared(&gate).await?;
    agent.propose("q-1", "ask_queue", json!({"question": 1})).await?;
    expect(&mut agent, "q-1", Outcome::InDoubt).await?;
    // The service returns. Somebody may already have resolved the doubt because nothing was done.
    let mut tool = QueuedTool::start(&gate).await?;
    agent.propose("q-2", "ask_queue", json!({"question": 2})).await?;
    let request = tool.request().await?;
    ensure!(request.data == br#"{"question":2}"#, "{:?}", String::from_utf8_lossy(&request.data));
    gate.close().await
}

#[tokio::test]
async fn a_reply_that_comes_too_late_changes_nothing_and_is_kept() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut tool = QueuedTool::start(&gate).await?;
    agent.propose("q-1", "ask_queue", json!({"question": 1})).await?;
    let request = tool.request().await?;
    // No attempt is answered in time.
    expect(&mut agent, "q-1", Outcome::InDoubt).await?;
    tool.reply(&request, &json!({"status": "succeeded", "result": {"answer": 42}})).await?;
    gate.reaches(
        "SELECT count(*) FROM evidence e JOIN late_results l ON l.id::text = e.body->>'late_result'
         WHERE e.kind = 'result.late' AND convert_from(substr(l.result, 17), 'UTF8') LIKE '%42%'",
        1,
    )
    .await?;
    ensure!(gate.count("SELECT count(*) FROM actions WHERE state = 'in_doubt'").await? == 1);
    gate.close().await
}

#[tokio::test]
async fn a_slow_tool_does_not_delay_the_rest_of_its_pack() -> anyhow::Result<()> {
    let gate = Gate::acting(|tool: &str, _: &Value| match tool {
        "move_money" => Err((503, "later".into())),
        _ => Ok(Value::Null),
    })
    .await?;
    let mut agent = gate.agent("one").await?;
    let slow = proposal("one", "slow", "move_money", json!({"amount": "1"}));
    let quick = proposal("one", "quick", "write_record", json!({"n": 1}));
    agent.send(&[slow, quick]).await?;
    expect(&mut agent, "quick", Outcome::Succeeded).await?;
    // Three attempts without a definite answer leave it in doubt.
    expect(&mut agent, "slow", Outcome::InDoubt).await?;
    gate.close().await
}

#[tokio::test]
async fn an_action_past_its_own_deadline_is_not_executed() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut late = proposal("one", "late", "write_record", json!({"n": 1}));
    late["data"]["expires_at"] = json!("2020-01-01T00:00:00Z");
    agent.send(&[late]).await?;
    expect(&mut agent, "late", Outcome::Expired).await?;
    // One whose deadline passes while its approval is pending.
    let mut asked = proposal("one", "asked", "move_money", json!({"amount": "500"}));
    asked["data"]["expires_at"] = json!(chrono::Utc::now() + Duration::from_secs(2));
    agent.send(&[asked]).await?;
    expect(&mut agent, "asked", Outcome::Expired).await?;
    ensure!(gate.tools.calls() == 0);
    gate.close().await
}

/// More actions than one sweep reads have waited longer for a stopped executor.
#[tokio::test]
async fn a_backlog_for_the_executor_does_not_hide_a_deadline_from_the_sweep() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let store = gate.system.store()?;
    // Never committed: only this transaction sees them.
    let tx = store.transaction().await?;
    let sql = "INSERT INTO actions (id, source, event_id, agent, tool, state, verdict, rule, generation, policy_version,
                                    audit_rate, audit_group, permit, expires_at, proposed_at, state_at)
               SELECT gen_random_uuid(), '/agents/one', 'waits-' || n, 'one', 'pay', 'authorised', 'allow', 'r', generation,
                      '1', 0, 'auditors', gen_random_uuid(), CASE WHEN n = 0 THEN now() END,
                      now() - n * interval '1 minute', now() - interval '1 hour'
               FROM active, generate_series(0, $1) n";
    tx.execute(sql, &[&i32::try_from(SWEEP_MAX + 100)?]).await?;
    let late = tx.query_one("SELECT id FROM actions WHERE event_id = 'waits-0'", &[]).await?;
    let found = sweeps::to_reevaluate(&tx, 30.0).await?;
    ensure!(
        found.contains(&ActionId(late.get(0))),
        "{} are found, and not the one that is late",
        found.len()
    );
    ensure!(found.len() as i64 >= SWEEP_MAX, "{} are found", found.len());
    gate.close().await
}
