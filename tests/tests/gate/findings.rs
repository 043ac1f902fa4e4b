//! Findings: signed, checked, and settled by one, two or three auditors.

use anyhow::{Context as _, ensure};
use chrono::{TimeDelta, Utc};
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    reader::Reader,
    topology::audits_queue,
};
use countersign_core::{
    message::{AuditRequest, CloudEvent, Decision, Finding, FindingData, Severity},
    signed::{SignedStatement, Signer},
};
use countersign_testkit::clients::{finding, finding_event, found, proposal, statement};
use countersign_tests::{Gate, LIMIT, folder, willing};
use serde_json::{Value, json};

/// A gate that audits every record, with `audits` as the policy's settings for audits.
async fn gate(audits: &str) -> anyhow::Result<Gate> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1,",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 1.0,",
    )?;
    let path = config.path().join("policy.yaml");
    let policy = std::fs::read_to_string(&path)?;
    std::fs::write(&path, policy.replacen("default:", &format!("audits: {{{audits}}}\ndefault:"), 1))?;
    Gate::configured_acting(config, willing).await
}

/// A gate with one written record whose audit is open.
struct Desk {
    gate: Gate,
    queue: Reader,
    asked: AuditRequest,
}

impl Desk {
    async fn start(audits: &str) -> anyhow::Result<Self> {
        let gate = gate(audits).await?;
        let url = gate.system.url("auditor-ada")?;
        let mut queue = Reader::open(url, "test", &audits_queue("auditors")).await?;
        gate.agent("one").await?.propose("r", "write_record", json!({"n": 1})).await?;
        let asked = request(&mut queue).await?.data;
        Ok(Self { gate, queue, asked })
    }

    fn signer(&self, auditor: &str) -> anyhow::Result<Signer> {
        self.gate.system.signer(auditor, auditor)
    }

    async fn sends(&self, auditor: &str, message: &Outgoing) -> anyhow::Result<()> {
        let url = self.gate.system.url(&format!("auditor-{auditor}"))?;
        let publisher = Publisher::connect(url, "auditor").await?;
        Ok(publisher.publish(std::slice::from_ref(message)).await?)
    }

    /// Sends a finding and waits until it is processed.
    async fn finds(&self, auditor: &str, data: FindingData) -> anyhow::Result<()> {
        let before = self.processed().await?;
        self.sends(auditor, &found(&self.signer(auditor)?, &[data])).await?;
        self.gate.reaches(PROCESSED, before + 1).await
    }

    async fn processed(&self) -> anyhow::Result<i64> {
        self.gate.count(PROCESSED).await
    }

    /// Sends a message and expects that it is refused with `code` in the action's timeline and leaves the audit open.
    async fn refused(&self, code: &str, auditor: &str, message: &Outgoing) -> anyhow::Result<()> {
        let noted = format!(
            "SELECT count(*) FROM evidence e JOIN actions a ON a.id = e.action
             WHERE a.event_id = 'r' AND e.kind = 'finding.refused' AND e.body->>'code' = '{code}'"
        );
        let before = self.gate.count(&noted).await?;
        self.sends(auditor, message).await?;
        self.gate.reaches(&noted, before + 1).await.context(code.to_owned())?;
        ensure!(self.gate.count("SELECT count(*) FROM audits WHERE state = 'open'").await? == 1, "{code}");
        ensure!(self.gate.count("SELECT count(*) FROM findings").await? == 0, "{code}");
        Ok(())
    }

    fn correct(&self) -> FindingData {
        finding(&self.asked, Finding::Correct, None)
    }

    fn wrong(&self, severity: Severity) -> FindingData {
        let severity = Some(severity);
        FindingData { severity, ..finding(&self.asked, Finding::Wrong, Some("another was meant")) }
    }

    async fn settled(&self) -> anyhow::Result<Vec<(String, Option<String>)>> {
        let (output, ok) = self.gate.cli(&["audits", "list", "--state", "judged", "--json"]).await?;
        ensure!(ok, "{output}");
        let judged: Vec<Value> = serde_json::from_str(&output)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(judged
            .iter()
            .map(|audit| (text(&audit["finding"]).unwrap_or_default(), text(&audit["severity"])))
            .collect())
    }
}

const PROCESSED: &str = "SELECT count(*) FROM evidence WHERE kind LIKE 'finding.%'";

async fn request(queue: &mut Reader) -> anyhow::Result<CloudEvent<AuditRequest>> {
    queue.next::<AuditRequest>(LIMIT).await?.context("no audit request came")
}

#[tokio::test]
async fn nobody_submits_a_finding_in_anothers_name() -> anyhow::Result<()> {
    let desk = Desk::start("").await?;
    let (correct, ada) = (desk.correct(), desk.signer("ada")?);
    let by = |signer: &Signer, data: &FindingData| found(signer, std::slice::from_ref(data));
    desk.refused("unsigned", "ada", &finding_event(correct.clone())).await?;
    let wrong_key = desk.gate.system.signer("ada", "ben")?;
    desk.refused("key_unknown", "ada", &by(&wrong_key, &correct)).await?;
    let nobody = desk.gate.system.signer("nobody", "ada")?;
    desk.refused("auditor_unknown", "ada", &by(&nobody, &correct)).await?;
    desk.refused("not_spoken_for", "ben", &by(&ada, &correct)).await?;
    desk.refused("not_in_group", "dirk", &by(&desk.signer("dirk")?, &correct)).await?;

    let part = |signed: &SignedStatement, index: usize| {
        signed.jws.split('.').nth(index).map(str::to_owned).unwrap_or_default()
    };
    let now = Utc::now();
    let (honest, other) = (
        statement(&ada, &[desk.wrong(Severity::Minor)], now),
        statement(&ada, std::slice::from_ref(&correct), now),
    );
    let jws = format!("{}.{}.{}", part(&other, 0), part(&other, 1), part(&honest, 2));
    desk.refused("signature_invalid", "ada", &finding_event(SignedStatement { jws, disclosures: vec![] }))
        .await?;
    desk.refused("undisclosed", "ada", &finding_event(SignedStatement { disclosures: vec![], ..honest }))
        .await?;
    let at = |minutes: i64| {
        finding_event(statement(&ada, std::slice::from_ref(&correct), now + TimeDelta::minutes(minutes)))
    };
    desk.refused("stale", "ada", &at(-11)).await?;
    desk.refused("signed_in_future", "ada", &at(5)).await?;

    // A signed decision is not a finding.
    let quarantined = "SELECT count(*) FROM quarantine WHERE code = 'invalid_finding'";
    let decision = countersign_core::message::DecisionData {
        approval: countersign_core::ids::ApprovalId(desk.asked.audit.0),
        digest: desk.asked.digest.clone(),
        decision: countersign_core::message::Decision::Approve,
        reason_code: None,
        reason: None,
        arguments: None,
    };
    desk.sends("ada", &finding_event(statement(&ada, &[decision], now))).await?;
    desk.gate.reaches(quarantined, 1).await?;

    // None of these counted. A valid finding counts once.
    let message = by(&ada, &correct);
    desk.sends("ada", &message).await?;
    desk.gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", 1).await?;
    let body: Value = serde_json::from_slice(&message.body)?;
    let replay: SignedStatement = serde_json::from_value(body["data"].clone())?;
    desk.sends("ada", &finding_event(replay)).await?;
    desk.gate.reaches("SELECT count(*) FROM evidence WHERE body->>'code' = 'replayed'", 1).await?;
    ensure!(desk.gate.count("SELECT count(*) FROM findings").await? == 1);
    desk.gate.close().await
}

#[tokio::test]
async fn an_incomplete_or_inconsistent_finding_is_refused() -> anyhow::Result<()> {
    let desk = Desk::start("reason_codes: [not_asked_for, other]").await?;
    ensure!(desk.asked.reason_codes == ["not_asked_for", "other"]);
    let ada = desk.signer("ada")?;
    let (correct, wrong) = (desk.correct(), desk.wrong(Severity::Minor));
    let digest = format!("sha256:{}", "0".repeat(64));
    for (code, data) in [
        ("digest_mismatch", FindingData { digest, ..correct.clone() }),
        ("severity_missing", FindingData { severity: None, ..wrong.clone() }),
        ("severity_missing", FindingData { severity: Some(Severity::Minor), ..correct.clone() }),
        ("reason_missing", FindingData { reason_code: None, ..wrong.clone() }),
        ("reason_unknown", FindingData { reason_code: Some("mood".into()), ..wrong.clone() }),
        ("reason_too_long", FindingData { reason: Some("x".repeat(5_000)), ..wrong.clone() }),
        ("invalid_correction", FindingData { correction: Some(json!({"n": 2})), ..wrong.clone() }),
        ("invalid_correction", FindingData { correction: Some(json!({"arguments": 2})), ..wrong.clone() }),
        ("invalid_correction", FindingData { correction: Some(json!({"tool": "x"})), ..correct.clone() }),
        ("not_reversible", FindingData { compensate: true, ..correct.clone() }),
    ] {
        desk.refused(code, "ada", &found(&ada, &[data])).await?;
    }
    let correction = Some(json!({"tool": null}));
    desk.finds("ada", FindingData { correction, ..wrong }).await?;
    ensure!(desk.settled().await? == [("wrong".into(), Some("minor".into()))]);
    let none =
        "SELECT count(*) FROM findings WHERE convert_from(patch, 'UTF8')::jsonb @> '[{\"value\": null}]'";
    ensure!(desk.gate.count(none).await? == 1);
    // The tool cannot undo it, so a remediation is open.
    let (output, ok) = desk.gate.cli(&["remediations", "list", "--json"]).await?;
    let tasks: Vec<Value> = serde_json::from_str(&output)?;
    ensure!(ok && tasks.len() == 1 && tasks[0]["owner"] == "auditors", "{output}");
    let close = |id: &str| -> Vec<String> {
        ["remediations", "close", id, "--evidence", "letter 17", "--operator", "olga"]
            .map(str::to_owned)
            .into()
    };
    let arguments = close(tasks[0]["id"].as_str().unwrap_or_default());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (output, ok) = desk.gate.cli(&arguments).await?;
    ensure!(ok && output.contains("is closed"), "{output}");
    let (output, ok) = desk.gate.cli(&arguments).await?;
    ensure!(!ok && output.contains("no open task"), "{output}");
    desk.gate.close().await
}

#[tokio::test]
async fn two_auditors_judge_blind_and_a_third_settles_their_disagreement() -> anyhow::Result<()> {
    let mut desk = Desk::start("twice: 1.0").await?;
    desk.finds("ada", desk.wrong(Severity::Major)).await?;
    ensure!(desk.settled().await?.is_empty());
    let second = request(&mut desk.queue).await?;
    ensure!(second.data.audit == desk.asked.audit);
    let shown = serde_json::to_value(&second.data)?;
    ensure!(
        shown == serde_json::to_value(&desk.asked)?,
        "the second request reveals the first finding: {shown}"
    );
    // An auditor who has judged it cannot judge it again.
    desk.finds("ada", desk.correct()).await?;
    ensure!(desk.gate.refusals("finding.refused", "already_judged").await? == 1);
    desk.finds("ben", desk.correct()).await?;
    ensure!(desk.settled().await?.is_empty(), "settled although they disagree");
    let third = request(&mut desk.queue).await?;
    ensure!(third.id != second.id && third.data.audit == desk.asked.audit);
    desk.finds("cleo", desk.wrong(Severity::Minor)).await?;
    ensure!(desk.settled().await? == [("wrong".into(), Some("major".into()))]);
    desk.gate.close().await
}

#[tokio::test]
async fn an_unsure_auditor_defers_to_another_and_a_critical_error_needs_two() -> anyhow::Result<()> {
    let mut desk = Desk::start("").await?;
    desk.finds("ada", finding(&desk.asked, Finding::Unsure, None)).await?;
    request(&mut desk.queue).await?;
    desk.finds("ben", desk.wrong(Severity::Critical)).await?;
    ensure!(desk.settled().await?.is_empty(), "settled as critical by one auditor");
    request(&mut desk.queue).await?;
    desk.finds("cleo", desk.wrong(Severity::Critical)).await?;
    ensure!(desk.settled().await? == [("wrong".into(), Some("critical".into()))]);
    desk.gate.close().await
}

#[tokio::test]
async fn whoever_is_behind_an_action_or_its_policy_does_not_judge_it() -> anyhow::Result<()> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1,",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 1.0,",
    )?;
    // Ada owns the agent, Ben wrote the policy, and Cleo is served.
    for (name, from, to) in [
        ("directory.yaml", "owner: mara", "owner: ada"),
        ("directory.yaml", "auditor-dirk, groups: [others]", "auditor-dirk, groups: [others, auditors]"),
        ("policy.yaml", "version: \"test-1\"", "version: \"test-1\"\nauthor: ben"),
    ] {
        let path = config.path().join(name);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{name} has no {from}");
        std::fs::write(&path, text.replace(from, to))?;
    }
    let gate = Gate::configured_acting(config, willing).await?;
    let mut queue = Reader::open(gate.system.url("auditor-ada")?, "test", &audits_queue("auditors")).await?;
    let mut event = proposal("one", "r", "write_record", json!({"n": 1}));
    event["data"]["agent"]["on_behalf_of"] = "customer:cleo".into();
    gate.agent("one").await?.send(&[event]).await?;
    let asked = request(&mut queue).await?.data;
    let desk = Desk { gate, queue, asked };
    for (code, auditor) in [("requester", "ada"), ("policy_author", "ben"), ("requester", "cleo")] {
        desk.refused(code, auditor, &found(&desk.signer(auditor)?, &[desk.correct()])).await?;
    }
    desk.finds("dirk", desk.correct()).await?;
    ensure!(desk.settled().await? == [("correct".into(), None)]);
    desk.gate.close().await
}

#[tokio::test]
async fn whoever_approved_an_action_under_one_id_does_not_audit_it_under_another() -> anyhow::Result<()> {
    let config = folder("{id: ben,", "{id: ben, person: sam,")?;
    let path = config.path().join("policy.yaml");
    let policy = std::fs::read_to_string(&path)?;
    std::fs::write(&path, policy.replace("rate: 0.1, group: auditors", "rate: 1.0, group: auditors"))?;
    let gate = Gate::configured_acting(config, willing).await?;
    let mut queue = Reader::open(gate.system.url("auditor-ada")?, "test", &audits_queue("auditors")).await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    gate.agent("one").await?.propose("r", "move_money", json!({"amount": "500"})).await?;
    let asked = requests.next().await?;
    gate.reviewer("sam").await?.decides(&asked, Decision::Approve, None).await?;
    let asked = request(&mut queue).await?.data;
    let desk = Desk { gate, queue, asked };
    desk.refused("approver", "ben", &found(&desk.signer("ben")?, &[desk.correct()])).await?;
    desk.finds("ada", desk.correct()).await?;
    ensure!(desk.settled().await? == [("correct".into(), None)]);
    desk.gate.close().await
}

#[tokio::test]
async fn one_person_under_two_ids_does_not_confirm_their_own_finding() -> anyhow::Result<()> {
    let config = folder("{id: ben,", "{id: ben, person: ada,")?;
    let path = config.path().join("policy.yaml");
    let policy = std::fs::read_to_string(&path)?;
    let policy = policy.replace("rate: 0.1, group: auditors", "rate: 1.0, group: auditors");
    std::fs::write(&path, policy.replacen("default:", "audits: {twice: 1.0}\ndefault:", 1))?;
    let directory = config.path().join("directory.yaml");
    let more = std::fs::read_to_string(&directory)?
        .replace("groups: [others]}\noperators", "groups: [others, auditors]}\noperators");
    std::fs::write(&directory, more)?;
    let gate = Gate::configured_acting(config, willing).await?;
    let mut queue = Reader::open(gate.system.url("auditor-ada")?, "test", &audits_queue("auditors")).await?;
    gate.agent("one").await?.propose("r", "write_record", json!({"n": 1})).await?;
    let asked = request(&mut queue).await?.data;
    let desk = Desk { gate, queue, asked };
    desk.finds("ada", desk.correct()).await?;
    desk.finds("ben", desk.correct()).await?;
    ensure!(desk.gate.refusals("finding.refused", "already_judged").await? == 1);
    ensure!(desk.settled().await?.is_empty(), "one person has settled an audit that needs two");
    desk.finds("cleo", desk.correct()).await?;
    ensure!(desk.settled().await? == [("correct".into(), None)]);
    desk.gate.close().await
}
