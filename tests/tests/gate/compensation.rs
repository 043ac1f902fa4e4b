//! Compensation of wrong actions: requested by an auditor, evaluated by policy, executed once.

use anyhow::{Context as _, ensure};
use countersign_broker::{publisher::Publisher, reader::Reader, topology::audits_queue};
use countersign_core::{
    action::Outcome,
    message::{AuditRequest, Decision, Finding, FindingData},
};
use countersign_testkit::clients::{finding, found};
use countersign_tests::{Gate, LIMIT, answer, expect, folder, willing};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A gate where a record can be undone within `within`, after an approval.
async fn gate(within: &str) -> anyhow::Result<Gate> {
    audited(within, "0.0").await
}

/// The same with the share of compensations that are audited.
async fn audited(within: &str, share: &str) -> anyhow::Result<Gate> {
    Gate::configured_acting(reversible(within, share)?, willing).await
}

/// A folder where a record can be undone by what the tool answers.
pub(crate) fn reversible(within: &str, share: &str) -> anyhow::Result<TempDir> {
    let config = folder(
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 0.1,",
        "\"pay\"]\n    verdict: allow\n    audit: {rate: 1.0,",
    )?;
    let edit = |name: &str, from: &str, to: &str| -> anyhow::Result<()> {
        let path = config.path().join(name);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{from:?} is not in {name}");
        Ok(std::fs::write(&path, text.replacen(from, to, 1))?)
    };
    edit(
        "policy.yaml",
        "rules:\n",
        &format!(
            "audits: {{remediation: {{owner: others, due: 2d}}}}\nrules:\n  - id: undo\n    when: has(action.compensates)\n    \
             verdict: require_approval\n    group: approvers\n    expires_after: 10m\n    \
             audit: {{rate: {share}, group: auditors}}\n"
        ),
    )?;
    edit(
        "tools.yaml",
        "    idempotent: true\n    risk: low\n",
        &format!(
            "    idempotent: true\n    risk: low\n    reversible: {{by: erase_record, arguments: {{n: \
             action.arguments.n, seen: result.done.n}}, within: {within}}}\n  - name: erase_record\n    description: \
             Takes a record back\n    connector: {{http: {{url: \"${{TEST_TOOLS_URL}}/tools/erase_record\"}}}}\n    \
             arguments: {{type: object, required: [n]}}\n    timeout: 2s\n    idempotent: true\n"
        ),
    )?;
    Ok(config)
}

/// Sends an auditor's finding.
async fn finds(gate: &Gate, auditor: &str, data: FindingData) -> anyhow::Result<()> {
    let publisher = Publisher::connect(gate.system.url(&format!("auditor-{auditor}"))?, "test").await?;
    Ok(publisher.publish(&[found(&gate.system.signer(auditor, auditor)?, &[data])]).await?)
}

#[tokio::test]
async fn a_wrong_action_is_undone_once_after_an_approval_and_linked_both_ways() -> anyhow::Result<()> {
    let gate = gate("1h").await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    let _auditor = gate
        .auditor("ada", |request: &AuditRequest| {
            let undo = request.compensation.is_some();
            Some(FindingData { compensate: undo, ..finding(request, Finding::Wrong, Some("not ordered")) })
        })
        .await?;
    agent.propose("record", "write_record", json!({"n": 7})).await?;
    expect(&mut agent, "record", Outcome::Succeeded).await?;
    // It is an ordinary action: it needs approval, and the request shows what it undoes.
    let asked = requests.next().await?;
    ensure!(asked.action.tool == "erase_record" && asked.action.compensates.is_some(), "{asked:?}");
    let arguments: Value = serde_json::from_str(asked.action.arguments.get())?;
    ensure!(arguments == json!({"n": 7, "seen": 7}), "{arguments}");
    ensure!(asked.action.agent.get().contains("\"on_behalf_of\":\"ada\""), "{}", asked.action.agent);
    ensure!(gate.tools.calls() == 1, "it was undone without an approval");
    sam.decides(&asked, Decision::Approve, None).await?;
    let undone = answer(&mut agent).await?;
    ensure!(undone.outcome == Outcome::Succeeded && undone.action.source == "/countersign/compensations");
    ensure!(gate.tools.effects().iter().filter(|effect| effect.tool == "erase_record").count() == 1);

    // Linked in both directions, and never repeated, however often it is requested.
    let linked = "SELECT count(*) FROM actions c JOIN actions a ON a.id = c.compensates
                  WHERE c.tool = 'erase_record' AND a.event_id = 'record' AND c.event_id = a.id::text";
    ensure!(gate.count(linked).await? == 1);
    gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'action.compensated'", 1).await?;
    let undoing = format!("{}#{}", undone.action.source, undone.action.id);
    for id in ["record", undoing.as_str()] {
        let (output, ok) = gate.cli(&["actions", "show", id, "--json"]).await?;
        let shown: Value = serde_json::from_str(&output)?;
        let other = if id == "record" { "compensated_by" } else { "compensates" };
        ensure!(ok && shown[other].is_string(), "{output}");
    }
    let again =
        "WITH again AS (UPDATE audits SET state = 'open', round = round + 1, finding = NULL, severity = NULL, judged_at = NULL
                                RETURNING 1),
                 forgotten AS (DELETE FROM findings RETURNING 1)
                 SELECT count(*) FROM again, forgotten";
    ensure!(gate.count(again).await? == 1);
    gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", 1).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'audit.settled'", 2).await?;
    ensure!(gate.count("SELECT count(*) FROM actions WHERE compensates IS NOT NULL").await? == 1);
    ensure!(gate.count("SELECT count(*) FROM remediations").await? == 0);
    gate.close().await
}

#[tokio::test]
async fn what_cannot_be_undone_says_so_before_anybody_asks_for_it() -> anyhow::Result<()> {
    // The answer lacks what the compensation is made of.
    let gate = Gate::configured_acting(reversible("1h", "0.0")?, |_: &str, _: &Value| Ok(json!({"done": 1})))
        .await?;
    let mut agent = gate.agent("one").await?;
    let url = gate.system.url("auditor-ada")?;
    let mut audits = Reader::open(url, "test", &audits_queue("auditors")).await?;
    agent.propose("record", "write_record", json!({"n": 7})).await?;
    expect(&mut agent, "record", Outcome::Succeeded).await?;
    let asked = audits.next::<AuditRequest>(LIMIT).await?.context("no audit was requested")?.data;
    let why = asked.cannot_be_undone.context("the request does not say that it cannot be undone")?;
    ensure!(asked.compensation.is_none() && why.contains("seen"), "{why}");
    let (output, ok) = gate.cli(&["actions", "show", "record", "--json"]).await?;
    let shown: Value = serde_json::from_str(&output)?;
    ensure!(ok && shown["cannot_be_undone"] == why.as_str(), "{output}");
    ensure!(gate.system.log("sampler").contains("no tool can undo this action"));
    gate.close().await
}

#[tokio::test]
async fn whoever_asked_for_a_compensation_does_not_judge_it() -> anyhow::Result<()> {
    let gate = audited("1h", "1.0").await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let url = gate.system.url("auditor-ada")?;
    let mut audits = Reader::open(url, "test", "countersign.audits.auditors").await?;
    agent.propose("record", "write_record", json!({"n": 7})).await?;
    expect(&mut agent, "record", Outcome::Succeeded).await?;
    let asked = audits.next::<AuditRequest>(LIMIT).await?.context("no audit request came")?.data;
    let wrong = FindingData { compensate: true, ..finding(&asked, Finding::Wrong, Some("not ordered")) };
    finds(&gate, "ada", wrong).await?;
    gate.reviewer("sam").await?.decides(&requests.next().await?, Decision::Approve, None).await?;
    let undone = audits.next::<AuditRequest>(LIMIT).await?.context("no audit of the compensation came")?.data;
    ensure!(undone.action.tool == "erase_record", "{undone:?}");
    finds(&gate, "ada", finding(&undone, Finding::Correct, None)).await?;
    let refused =
        "SELECT count(*) FROM evidence WHERE kind = 'finding.refused' AND body->>'code' = 'requester'";
    gate.reaches(refused, 1).await?;
    ensure!(gate.count("SELECT count(*) FROM audits WHERE state = 'open'").await? == 1);
    finds(&gate, "ben", finding(&undone, Finding::Correct, None)).await?;
    gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", 2).await?;
    gate.close().await
}

#[tokio::test]
async fn a_rejected_compensation_opens_a_remediation_task() -> anyhow::Result<()> {
    let gate = gate("1h").await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let _auditor = gate
        .auditor("ada", |request: &AuditRequest| {
            Some(FindingData { compensate: true, ..finding(request, Finding::Wrong, Some("not ordered")) })
        })
        .await?;
    agent.propose("record", "write_record", json!({"n": 7})).await?;
    expect(&mut agent, "record", Outcome::Succeeded).await?;
    let asked = requests.next().await?;
    gate.reviewer("sam").await?.decides(&asked, Decision::Reject, Some("leave it")).await?;
    ensure!(answer(&mut agent).await?.outcome == Outcome::Rejected);
    let task = "SELECT count(*) FROM remediations r JOIN actions a ON a.id = r.action
                WHERE a.event_id = 'record' AND r.owner = 'others' AND r.closed_at IS NULL
                  AND r.due_at BETWEEN now() + interval '47 hours' AND now() + interval '49 hours'
                  AND r.reason = 'its compensation ended as rejected'";
    gate.reaches(task, 1).await?;
    gate.close().await
}

#[tokio::test]
async fn an_action_that_can_no_longer_be_undone_opens_a_remediation_task() -> anyhow::Result<()> {
    let gate = gate("1s").await?;
    let mut agent = gate.agent("one").await?;
    let mut audits =
        Reader::open(gate.system.url("auditor-ada")?, "test", "countersign.audits.auditors").await?;
    agent.propose("record", "write_record", json!({"n": 7})).await?;
    expect(&mut agent, "record", Outcome::Succeeded).await?;
    let asked = audits.next::<AuditRequest>(LIMIT).await?.context("no audit request came")?.data;
    gate.reaches("SELECT count(*) FROM actions WHERE ended_at < now() - interval '1.1 seconds'", 1).await?;
    let wrong = FindingData { compensate: true, ..finding(&asked, Finding::Wrong, Some("not ordered")) };
    finds(&gate, "ada", wrong).await?;
    let task = "SELECT count(*) FROM remediations WHERE reason = 'the time limit for undoing it has passed'";
    gate.reaches(task, 1).await?;
    ensure!(gate.count("SELECT count(*) FROM actions WHERE compensates IS NOT NULL").await? == 0);
    gate.close().await
}

#[tokio::test]
async fn an_agent_cannot_claim_that_its_action_undoes_another() -> anyhow::Result<()> {
    let gate = gate("1h").await?;
    let mut agent = gate.agent("one").await?;
    let mut claim = countersign_testkit::clients::proposal("one", "claim", "erase_record", json!({"n": 7}));
    claim["data"]["compensates"] = json!({"source": "/agents/one", "id": "record"});
    agent.send(&[claim]).await?;
    let denied = expect(&mut agent, "claim", Outcome::Denied).await?;
    ensure!(denied.error.is_some_and(|error| error.code == "invalid_proposal"));
    gate.close().await
}
