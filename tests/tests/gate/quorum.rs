//! Approvals of more than one person: quorum, separation of duties, authority, edits, escalation.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use chrono::{TimeDelta, Utc};
use countersign_core::{
    action::Outcome,
    message::{ApprovalRequest, Decision, DecisionData},
};
use countersign_testkit::{
    clients::{Agent, decided, decision, proposal, statement},
    wait::eventually,
};
use countersign_tests::{
    Gate, LIMIT, Requests, answer, config,
    evidence::{recorded, verify},
    expect, folder, willing,
};
use serde_json::{Value, json};

/// A decision without a reason.
fn plain(asked: &ApprovalRequest, decided: Decision) -> DecisionData {
    DecisionData { reason_code: None, ..decision(asked, decided, None) }
}

/// A gate with a reader of risk's requests, and an agent that pays.
struct Payments {
    gate: Gate,
    agent: Agent,
    requests: Requests,
}

impl Payments {
    async fn start() -> anyhow::Result<Self> {
        Self::at(Gate::start().await?).await
    }

    async fn at(gate: Gate) -> anyhow::Result<Self> {
        let agent = gate.agent("one").await?;
        let requests = gate.requests("rob", "risk").await?;
        Ok(Self { gate, agent, requests })
    }

    async fn pay(&mut self, id: &str, amount: &str) -> anyhow::Result<ApprovalRequest> {
        self.agent.propose(id, "pay", json!({"amount": amount})).await?;
        self.requests.next().await
    }

    async fn submit(&self, who: &str, data: DecisionData) -> anyhow::Result<()> {
        self.gate.reviewer(who).await?.submit(&[data]).await
    }

    async fn approves(&self, who: &str, asked: &ApprovalRequest) -> anyhow::Result<()> {
        self.submit(who, decision(asked, Decision::Approve, None)).await
    }

    async fn recorded(&self, count: i64) -> anyhow::Result<()> {
        self.gate.reaches("SELECT count(*) FROM decisions", count).await
    }

    async fn refused(&self, code: &str) -> anyhow::Result<()> {
        let sql = format!(
            "SELECT count(*) FROM evidence
             WHERE kind = 'decision.refused' AND body->>'code' = '{code}' AND action IS NOT NULL"
        );
        self.gate.reaches(&sql, 1).await?;
        let executed = self.gate.count("SELECT count(*) FROM actions WHERE started_at IS NOT NULL").await?;
        ensure!(executed == 0 && self.gate.tools.calls() == 0, "executed after {code}");
        Ok(())
    }
}

#[tokio::test]
async fn two_of_treasury_and_one_of_risk_are_three_people() -> anyhow::Result<()> {
    let mut payments = Payments::start().await?;
    let asked = payments.pay("p-1", "500").await?;
    ensure!(asked.quorum == 3 && asked.require.len() == 2 && asked.groups == ["risk", "treasury"]);
    // Bea is in both groups, but counts once.
    for who in ["bea", "tara"] {
        payments.approves(who, &asked).await?;
    }
    payments.recorded(2).await?;
    // A repeated approval changes nothing and does not count as a second person.
    payments.approves("bea", &asked).await?;
    payments.gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'decision.repeated'", 1).await?;
    ensure!(payments.gate.tools.calls() == 0);
    payments.approves("tom", &asked).await?;
    let outcome = expect(&mut payments.agent, "p-1", Outcome::Succeeded).await?;
    ensure!(outcome.approvers == ["bea", "tara", "tom"], "{:?}", outcome.approvers);
    payments.gate.close().await
}

#[tokio::test]
async fn an_invalid_decision_is_refused_with_its_code() -> anyhow::Result<()> {
    let mut payments = Payments::start().await?;
    let large = payments.pay("large", "60000").await?;
    payments.approves("tara", &large).await?;
    payments.refused("beyond_authority").await?;
    payments.approves("tess", &large).await?;
    payments.refused("excluded").await?;
    payments.approves("otto", &large).await?;
    payments.refused("not_in_group").await?;
    payments.approves("mara", &large).await?;
    let reject = |code: Option<&str>| DecisionData {
        reason_code: code.map(str::to_owned),
        ..plain(&large, Decision::Reject)
    };
    payments.submit("tom", reject(None)).await?;
    payments.refused("reason_missing").await?;
    payments.submit("tom", reject(Some("bad_mood"))).await?;
    payments.refused("reason_unknown").await?;
    payments.submit("tom", DecisionData { reason: Some("x".repeat(4_001)), ..reject(Some("fraud")) }).await?;
    payments.refused("reason_too_long").await?;
    payments
        .submit("tom", DecisionData { digest: "sha256:0".into(), ..plain(&large, Decision::Approve) })
        .await?;
    payments.refused("digest_mismatch").await?;
    payments.submit("tom", plain(&large, Decision::Edit)).await?;
    payments.refused("arguments_missing").await?;
    let edit =
        |arguments: Value| DecisionData { arguments: Some(arguments), ..plain(&large, Decision::Edit) };
    payments.submit("tom", edit(json!({"amount": 5}))).await?;
    payments.refused("edit_denied").await?;
    payments.submit("tom", edit(json!({"amount": "60000"}))).await?;
    payments.refused("edit_same").await?;
    payments.submit("tom", plain(&large, Decision::Respond)).await?;
    payments.approves("tom", &large).await?;
    payments.recorded(1).await?;
    // None of these ended the request.
    ensure!(payments.gate.count("SELECT count(*) FROM approvals WHERE state = 'open'").await? == 1);
    ensure!(payments.gate.count("SELECT count(*) FROM decisions").await? == 1);
    payments.gate.close().await
}

#[tokio::test]
async fn who_approves_and_then_rejects_has_rejected_and_an_app_cannot_hold_that_back() -> anyhow::Result<()> {
    let mut payments = Payments::start().await?;
    let asked = payments.pay("p-1", "500").await?;
    let reject = || DecisionData { reason_code: Some("fraud".into()), ..plain(&asked, Decision::Reject) };
    let approve = || decision(&asked, Decision::Approve, None);
    let now = Utc::now();
    let signs = async |who: &str, data: DecisionData, seconds: i64| -> anyhow::Result<()> {
        let at = now - TimeDelta::seconds(100 - seconds);
        let message = decided(statement(&payments.gate.system.signer(who, who)?, &[data], at));
        payments.gate.reviewer(who).await?.sends(&[message]).await
    };
    // Tara finds a mistake while others have still to decide.
    signs("tara", approve(), 10).await?;
    payments.recorded(1).await?;
    signs("tara", reject(), 20).await?;
    payments.recorded(2).await?;
    let shown = async || -> anyhow::Result<Value> {
        let id = asked.approval.to_string();
        let (shown, ok) = payments.gate.cli(&["approvals", "show", &id, "--json"]).await?;
        let (listed, there) = payments.gate.cli(&["approvals", "list", "--json"]).await?;
        ensure!(ok && there, "{shown}{listed}");
        let (shown, listed): (Value, Value) = (serde_json::from_str(&shown)?, serde_json::from_str(&listed)?);
        ensure!(listed[0]["decisions"] == shown["so_far"], "{listed} {shown}");
        Ok(shown["so_far"].clone())
    };
    ensure!(shown().await? == json!({"tara": "reject"}));
    // Whoever carries her statements can neither bring back the approval nor send one that was kept until now.
    signs("tara", approve(), 15).await?;
    payments.refused("superseded_decision").await?;
    signs("tara", approve(), 20).await?;
    payments
        .gate
        .reaches("SELECT count(*) FROM evidence WHERE body->>'code' = 'superseded_decision'", 2)
        .await?;
    for who in ["tom", "rob"] {
        payments.approves(who, &asked).await?;
    }
    payments.recorded(4).await?;
    ensure!(payments.gate.tools.calls() == 0, "her approval counts although she has rejected");
    // The same again is a repetition, and what she signs later counts.
    signs("tara", reject(), 30).await?;
    payments.gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'decision.repeated'", 1).await?;
    signs("tara", approve(), 40).await?;
    let outcome = expect(&mut payments.agent, "p-1", Outcome::Succeeded).await?;
    ensure!(outcome.approvers == ["rob", "tara", "tom"], "{:?}", outcome.approvers);
    recorded(&payments.gate).await?;
    let (output, holds) = verify(&payments.gate, &[]).await?;
    ensure!(holds, "{output}");
    payments.gate.close().await
}

#[tokio::test]
async fn nobody_rewrites_an_action_and_approves_it() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    // Mara owns the first agent, and may decide only about the second.
    let mut agent = gate.agent("two").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let (sam, mara) = (gate.reviewer("sam").await?, gate.reviewer("mara").await?);
    let edit = |asked: &ApprovalRequest, amount: &str| {
        let arguments = Some(json!({"amount": amount}));
        [DecisionData { arguments, ..decision(asked, Decision::Edit, None) }]
    };
    agent.propose("m-1", "move_money", json!({"amount": "500"})).await?;
    let first = requests.next().await?;
    sam.submit(&edit(&first, "9000")).await?;
    let second = requests.next().await?;
    sam.decides(&second, Decision::Approve, None).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE body->>'code' = 'editor'", 1).await?;
    ensure!(gate.tools.calls() == 0, "rewritten and approved by one person");
    // Not even when somebody else has edited it back: both have edited it now, and may only stop it.
    mara.submit(&edit(&second, "500")).await?;
    let third = requests.next().await?;
    ensure!(third.action.arguments.get() == first.action.arguments.get());
    sam.decides(&third, Decision::Approve, None).await?;
    mara.decides(&third, Decision::Approve, None).await?;
    gate.reaches("SELECT count(*) FROM evidence WHERE body->>'code' = 'editor'", 3).await?;
    sam.decides(&third, Decision::Reject, Some("not by two editors")).await?;
    expect(&mut agent, "m-1", Outcome::Rejected).await?;
    // Somebody who has not edited it approves it.
    agent.propose("m-2", "move_money", json!({"amount": "500"})).await?;
    sam.submit(&edit(&requests.next().await?, "9000")).await?;
    mara.decides(&requests.next().await?, Decision::Approve, None).await?;
    let outcome = expect(&mut agent, "m-2", Outcome::Succeeded).await?;
    ensure!(outcome.approvers == ["mara"], "{:?}", outcome.approvers);
    gate.close().await
}

#[tokio::test]
async fn neither_requester_nor_policy_author_may_decide() -> anyhow::Result<()> {
    let mut payments = Payments::start().await?;
    let mut served = proposal("one", "served", "pay", json!({"amount": "500"}));
    served["data"]["agent"]["on_behalf_of"] = "employee:tom".into();
    payments.agent.send(&[served]).await?;
    let asked = payments.requests.next().await?;
    payments.approves("tom", &asked).await?;
    payments.refused("requester").await?;
    payments.gate.apply("version: \"test-1\"", "version: \"test-2\"\nauthor: rob").await?;
    payments.approves("rob", &asked).await?;
    payments.refused("policy_author").await?;
    payments.gate.close().await
}

#[tokio::test]
async fn one_person_under_two_ids_neither_fills_two_places_nor_separates_duties() -> anyhow::Result<()> {
    let config = folder("{id: tom,", "{id: tom, person: tara,")?;
    let path = config.path().join("directory.yaml");
    // Olga, who has applied the policy, is Rob of risk.
    std::fs::write(&path, std::fs::read_to_string(&path)?.replace("{id: olga", "{id: olga, person: rob"))?;
    let mut payments = Payments::at(Gate::configured_acting(config, willing).await?).await?;
    let asked = payments.pay("p-1", "500").await?;
    payments.approves("rob", &asked).await?;
    payments.refused("policy_author").await?;
    for who in ["tara", "tom", "bea"] {
        payments.approves(who, &asked).await?;
    }
    // Three approvals are kept, and they are two people's.
    payments.recorded(3).await?;
    ensure!(payments.gate.count("SELECT count(*) FROM actions WHERE state = 'pending_approval'").await? == 1);
    ensure!(payments.gate.tools.calls() == 0, "executed after the approvals of two people");
    payments.approves("tess", &asked).await?;
    let outcome = expect(&mut payments.agent, "p-1", Outcome::Succeeded).await?;
    ensure!(outcome.approvers == ["bea", "tara", "tess", "tom"], "{:?}", outcome.approvers);
    payments.gate.close().await
}

#[tokio::test]
async fn an_edit_opens_a_new_request_that_only_the_editor_has_approved() -> anyhow::Result<()> {
    let mut payments = Payments::start().await?;
    let first = payments.pay("p-1", "500").await?;
    payments.approves("tara", &first).await?;
    payments.recorded(1).await?;
    let arguments = Some(json!({"amount": "300", "to": "x"}));
    let at = Utc::now();
    let tom = payments.gate.system.signer("tom", "tom")?;
    let carrier = payments.gate.reviewer("tom").await?;
    let edit = DecisionData { arguments, ..plain(&first, Decision::Edit) };
    carrier.sends(&[decided(statement(&tom, &[edit], at))]).await?;
    let second = payments.requests.next().await?;
    ensure!(second.approval != first.approval && second.digest != first.digest);
    ensure!(second.action.arguments.get() == r#"{"amount":"300","to":"x"}"# && second.approvers == ["tom"]);
    // The new request has another digest, so an approval of the old one does not count.
    payments.approves("bea", &first).await?;
    payments.refused("superseded").await?;
    payments.approves("rob", &second).await?;
    payments.recorded(4).await?;
    // The editor's own approval repeats what the edit says already, even if it was signed within the same second.
    let again = decision(&second, Decision::Approve, None);
    carrier.sends(&[decided(statement(&tom, &[again], at))]).await?;
    payments.gate.reaches("SELECT count(*) FROM evidence WHERE kind = 'decision.repeated'", 1).await?;
    ensure!(payments.gate.tools.calls() == 0, "an approval of the old request counted");
    payments.approves("tara", &second).await?;
    let outcome = expect(&mut payments.agent, "p-1", Outcome::Succeeded).await?;
    ensure!(outcome.result.is_some_and(|result| result.get().contains("\"300\"")));
    ensure!(payments.gate.tools.effects()[0].arguments == json!({"amount": "300", "to": "x"}));
    // The edit is one entry in the ledger, which names both contents.
    recorded(&payments.gate).await?;
    let (output, holds) = verify(&payments.gate, &[]).await?;
    ensure!(holds, "{output}");
    payments.gate.close().await
}

#[tokio::test]
async fn an_edit_back_to_the_original_is_a_new_proposal() -> anyhow::Result<()> {
    let mut payments = Payments::start().await?;
    let first = payments.pay("p-1", "500").await?;
    payments.approves("tara", &first).await?;
    payments.recorded(1).await?;
    let edit = |asked: &ApprovalRequest, amount: &str| {
        let arguments = Some(json!({"amount": amount}));
        DecisionData { arguments, ..plain(asked, Decision::Edit) }
    };
    payments.submit("tom", edit(&first, "300")).await?;
    let second = payments.requests.next().await?;
    payments.submit("rob", edit(&second, "500")).await?;
    let third = payments.requests.next().await?;
    ensure!(third.action.arguments.get() == first.action.arguments.get() && third.digest != first.digest);
    ensure!(third.approvers == ["rob"], "{:?}", third.approvers);
    // An edit beyond the editor's authority changes nothing.
    payments.submit("tara", edit(&third, "60000")).await?;
    payments.refused("beyond_authority").await?;
    ensure!(payments.gate.count("SELECT count(*) FROM approvals WHERE state = 'open'").await? == 1);
    for who in ["tara", "tom"] {
        payments.approves(who, &third).await?;
    }
    let outcome = expect(&mut payments.agent, "p-1", Outcome::Succeeded).await?;
    ensure!(outcome.result.is_some_and(|result| result.get().contains("\"500\"")));
    payments.gate.close().await
}

#[tokio::test]
async fn two_rejections_or_one_response_end_a_request() -> anyhow::Result<()> {
    let mut payments = Payments::start().await?;
    let asked = payments.pay("p-1", "500").await?;
    let reject = || DecisionData { reason_code: Some("fraud".into()), ..plain(&asked, Decision::Reject) };
    payments.submit("tara", reject()).await?;
    payments.recorded(1).await?;
    ensure!(payments.gate.count("SELECT count(*) FROM approvals WHERE state = 'open'").await? == 1);
    payments.submit("rob", reject()).await?;
    let outcome = expect(&mut payments.agent, "p-1", Outcome::Rejected).await?;
    ensure!(outcome.error.is_some_and(|error| error.code == "fraud"));

    let asked = payments.pay("p-2", "500").await?;
    let message = Some("ask for half of it".to_owned());
    payments.submit("rob", DecisionData { reason: message, ..plain(&asked, Decision::Respond) }).await?;
    let outcome = expect(&mut payments.agent, "p-2", Outcome::Rejected).await?;
    let error = outcome.error.context("a message")?;
    ensure!(error.code == "responded" && error.message == "ask for half of it");
    ensure!(payments.gate.tools.calls() == 0);
    payments.gate.close().await
}

#[tokio::test]
async fn when_nobody_answers_the_next_group_is_asked_and_may_decide() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("lea", "leads").await?;
    agent.propose("u-1", "urgent", json!({})).await?;
    let asked = requests.next().await?;
    ensure!(asked.groups == ["leads", "treasury"] && asked.allowed_decisions.len() == 2);
    ensure!(gate.count("SELECT count(*) FROM evidence WHERE kind = 'approval.escalated'").await? == 1);
    gate.reviewer("lea").await?.decides(&asked, Decision::Approve, None).await?;
    let outcome = expect(&mut agent, "u-1", Outcome::Succeeded).await?;
    ensure!(outcome.approvers == ["lea"]);
    // If nobody answers at all, the request expires.
    agent.propose("u-2", "urgent", json!({})).await?;
    expect(&mut agent, "u-2", Outcome::Expired).await?;
    ensure!(gate.tools.calls() == 1);
    gate.close().await
}

#[tokio::test]
async fn a_new_policy_requires_both_quorums_and_keeps_approvals() -> anyhow::Result<()> {
    let mut payments = Payments::start().await?;
    let asked = payments.pay("p-1", "500").await?;
    for who in ["tara", "tom"] {
        payments.approves(who, &asked).await?;
    }
    payments.recorded(2).await?;
    // The new policy requires only the leads.
    payments
        .gate
        .apply("require: [{group: treasury, count: 2}, {group: risk}]", "require: [{group: leads}]")
        .await?;
    payments.approves("rob", &asked).await?;
    payments.recorded(3).await?;
    ensure!(payments.gate.tools.calls() == 0, "the leads have not been asked");
    payments.approves("lea", &asked).await?;
    let outcome = expect(&mut payments.agent, "p-1", Outcome::Succeeded).await?;
    ensure!(outcome.approvers == ["lea", "rob", "tara", "tom"]);
    payments.gate.close().await
}

/// A directory with 30 people of treasury and 20 of risk.
fn crowd() -> anyhow::Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    for name in ["countersign.toml", "policy.yaml", "tools.yaml", "directory.yaml"] {
        let mut text = std::fs::read_to_string(config().join(name))?;
        if name == "directory.yaml" {
            let more: String = (0..50)
                .map(|n| {
                    let group = if n < 30 { "treasury" } else { "risk" };
                    format!("  - {{id: c{n}, amqp_user: reviewer-c{n}, groups: [{group}]}}\n")
                })
                .collect();
            text = text.replace("apps:\n", &format!("{more}apps:\n"));
        }
        std::fs::write(dir.path().join(name), text)?;
    }
    Ok(dir)
}

#[tokio::test]
async fn fifty_reviewers_and_two_routers_decide_a_thousand_requests_at_once() -> anyhow::Result<()> {
    const ACTIONS: usize = 1_000;
    let dir = crowd()?;
    let mut gate = Gate::configured(dir.path()).await?;
    gate.system.start("router", "router-2")?;
    let mut agent = gate.agent("one").await?;
    let mut requests = gate.requests("rob", "risk").await?;
    let events: Vec<Value> =
        (0..ACTIONS).map(|n| proposal("one", &format!("p-{n}"), "pay", json!({"amount": "500"}))).collect();
    agent.send(&events).await?;
    let mut asked = Vec::new();
    while asked.len() < ACTIONS {
        let next = requests.next().await?;
        if !asked.iter().any(|before: &ApprovalRequest| before.approval == next.approval) {
            asked.push(next);
        }
    }
    // Each request gets votes of three from treasury and two from risk, more than it needs; every tenth is rejected.
    let mut decisions: Vec<Vec<_>> = (0..50).map(|_| Vec::new()).collect();
    for (n, request) in asked.iter().enumerate() {
        let people = (0..3).map(|k| (n + 7 * k) % 30).chain((0..2).map(|k| 30 + (n + 3 * k) % 20));
        for who in people {
            let decided = if n % 10 == 0 { Decision::Reject } else { Decision::Approve };
            decisions[who].push(decision(request, decided, Some("a test")));
        }
    }
    let mut people = tokio::task::JoinSet::new();
    for (n, decisions) in decisions.into_iter().enumerate() {
        let reviewer = gate.reviewer(&format!("c{n}")).await?;
        // Every other reviewer signs ten decisions at a time.
        let together = if n % 2 == 0 { 10 } else { 1 };
        people.spawn(async move {
            for decisions in decisions.chunks(together) {
                reviewer.submit(decisions).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = people.join_next().await {
        done??;
    }
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < ACTIONS {
        let outcome = answer(&mut agent).await?;
        let failed = !matches!(outcome.outcome, Outcome::Succeeded | Outcome::Rejected);
        ensure!(!failed, "{outcome:?}");
        outcomes.insert(outcome.action.id, outcome.outcome);
    }
    let succeeded = outcomes.values().filter(|outcome| **outcome == Outcome::Succeeded).count();
    let rejected = outcomes.values().filter(|outcome| **outcome == Outcome::Rejected).count();
    ensure!((succeeded, rejected) == (900, 100), "{succeeded} succeeded, {rejected} rejected");
    ensure!(gate.tools.effects().len() == 900, "{} effects", gate.tools.effects().len());
    // Each request ended once, by exactly three approvals or two rejections.
    eventually("all decisions are processed", LIMIT, async || {
        let processed = "SELECT count(*) FROM evidence WHERE kind LIKE 'decision.%'";
        (gate.count(processed).await.ok()? >= 5 * ACTIONS as i64).then_some(())
    })
    .await?;
    let wrong = "SELECT count(*) FROM (SELECT a.id, a.state, count(d.*) FILTER (WHERE d.decision = 'approve') AS yes,
                                              count(d.*) FILTER (WHERE d.decision = 'reject') AS no
                                       FROM actions a LEFT JOIN decisions d ON d.action = a.id GROUP BY a.id) x
                 WHERE NOT ((state = 'succeeded' AND yes >= 3 AND no = 0) OR (state = 'rejected' AND yes = 0 AND no = 2))";
    let wrong = gate.count(wrong).await?;
    ensure!(wrong == 0, "{wrong} requests ended otherwise");
    // An action that waits longer than `unclaimed_after` for a call slot gets another permit.
    let permitted = gate.count("SELECT count(DISTINCT action) FROM permits").await?;
    ensure!(permitted == 900, "{permitted} actions have a permit");
    let outcomes = gate.count("SELECT count(*) FROM outcomes").await?;
    ensure!(outcomes == ACTIONS as i64, "{outcomes} outcomes");
    gate.close().await
}
