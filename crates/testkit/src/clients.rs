//! Test clients: agents, reviewer apps and auditors. They know only the contract.

use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    reader::Reader,
    topology::{DECISIONS, FINDINGS, actions_exchange, approvals_queue, audits_queue, outcomes_queue},
};
use countersign_core::{
    action::Outcome,
    message::{
        ApprovalRequest, AuditRequest, CloudEvent, Decision, DecisionData, Finding, FindingData, OutcomeData,
        Severity, kind,
    },
    signed::{Signable, SignedStatement, Signer},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// A proposal as an agent writes it.
pub fn proposal(agent: &str, id: &str, tool: &str, arguments: Value) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": format!("/agents/{agent}"), "type": kind::PROPOSED,
        "time": Utc::now(), "datacontenttype": "application/json",
        "data": {"tool": tool, "arguments": arguments, "agent": {"id": agent, "version": "1.4.2", "model": "gpt-4o"}},
    })
}

/// An agent.
pub struct Agent {
    /// Its id in the directory.
    pub id: String,
    publisher: Publisher,
    outcomes: Reader,
    received: Vec<(String, Outcome)>,
}

impl Agent {
    /// Connects with the agent's own URL.
    pub async fn connect(url: &str, id: &str) -> anyhow::Result<Self> {
        Ok(Self {
            id: id.into(),
            publisher: Publisher::connect(url, "agent").await?,
            outcomes: Reader::open(url, "stand-in", &outcomes_queue(id)).await?,
            received: Vec::new(),
        })
    }

    /// Proposes one action.
    pub async fn propose(&self, id: &str, tool: &str, arguments: Value) -> anyhow::Result<()> {
        self.send(&[proposal(&self.id, id, tool, arguments)]).await
    }

    /// Sends events unchanged.
    pub async fn send(&self, events: &[Value]) -> anyhow::Result<()> {
        let bodies: Vec<Vec<u8>> = events.iter().map(|event| event.to_string().into_bytes()).collect();
        self.send_raw(&bodies).await
    }

    /// Sends bytes unchanged and waits for the confirms.
    pub async fn send_raw(&self, bodies: &[Vec<u8>]) -> anyhow::Result<()> {
        let messages: Vec<Outgoing> = bodies
            .iter()
            .map(|body| Outgoing {
                exchange: actions_exchange(&self.id).into(),
                routing_key: "tool".into(),
                message_id: uuid::Uuid::now_v7().to_string(),
                body: body.clone(),
            })
            .collect();
        for window in messages.chunks(256) {
            self.publisher.publish(window).await?;
        }
        Ok(())
    }

    /// The next outcome, if one comes within `limit`.
    pub async fn outcome(&mut self, limit: Duration) -> anyhow::Result<Option<OutcomeData>> {
        let outcome = self.outcomes.next::<OutcomeData>(limit).await?.map(|event| event.data);
        self.received.extend(outcome.iter().map(|data| (data.action.id.clone(), data.outcome)));
        Ok(outcome)
    }

    /// Whether this outcome was received more than once: outcomes are delivered at least once.
    pub fn received_again(&self, data: &OutcomeData) -> bool {
        let same = |(id, outcome): &&(String, Outcome)| *id == data.action.id && *outcome == data.outcome;
        self.received.iter().filter(same).count() > 1
    }
}

/// A reviewer who signs decisions.
pub struct Reviewer {
    signer: Signer,
    publisher: Publisher,
}

impl Reviewer {
    /// Connects with the URL of the reviewer, or of an app that speaks for them.
    pub async fn connect(url: &str, signer: Signer) -> anyhow::Result<Self> {
        Ok(Self { signer, publisher: Publisher::connect(url, "reviewer").await? })
    }

    /// Decides one request, on its digest; a rejection gives the first reason code.
    pub async fn decides(
        &self,
        request: &ApprovalRequest,
        decided: Decision,
        reason: Option<&str>,
    ) -> anyhow::Result<()> {
        self.submit(&[decision(request, decided, reason)]).await
    }

    /// Signs decisions and sends them in one message.
    pub async fn submit(&self, decisions: &[DecisionData]) -> anyhow::Result<()> {
        self.sends(&[signed(&self.signer, decisions)]).await
    }

    /// Sends messages unchanged.
    pub async fn sends(&self, messages: &[Outgoing]) -> anyhow::Result<()> {
        Ok(self.publisher.publish(messages).await?)
    }
}

/// A reviewer app: consumes one group's requests, and signs what `decide` answers for each; `None` leaves it open.
pub struct ReviewerApp {
    task: JoinHandle<anyhow::Result<()>>,
}

impl ReviewerApp {
    /// Connects with the reviewer's own URL and works until it is dropped.
    pub async fn start(
        url: &str,
        signer: Signer,
        group: &str,
        mut judge: impl FnMut(&ApprovalRequest) -> Option<DecisionData> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let mut requests = Reader::open(url, "stand-in", &approvals_queue(group)).await?;
        let reviewer = Reviewer::connect(url, signer).await?;
        let task = tokio::spawn(async move {
            loop {
                let Some(event) = requests.next::<ApprovalRequest>(Duration::from_secs(3600)).await? else {
                    return Ok(());
                };
                if let Some(decision) = judge(&event.data) {
                    reviewer.submit(&[decision]).await?;
                }
            }
        });
        Ok(Self { task })
    }

    /// Whether it still works.
    pub fn is_working(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for ReviewerApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The withdrawal of an action as an agent writes it.
pub fn withdrawal(agent: &str, id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": uuid::Uuid::now_v7(), "source": format!("/agents/{agent}"), "type": kind::CANCELLED,
        "time": Utc::now(), "datacontenttype": "application/json", "data": {"action": {"id": id}},
    })
}

/// A decision on a request, bound to its digest.
pub fn decision(request: &ApprovalRequest, decision: Decision, reason: Option<&str>) -> DecisionData {
    DecisionData {
        approval: request.approval,
        digest: request.digest.clone(),
        decision,
        reason_code: request.reason_codes.first().filter(|_| decision == Decision::Reject).cloned(),
        reason: reason.map(str::to_owned),
        arguments: None,
    }
}

/// Decisions as a message, signed now.
pub fn signed(signer: &Signer, decisions: &[DecisionData]) -> Outgoing {
    decided(statement(signer, decisions, Utc::now()))
}

/// Decisions or findings, signed at `at`.
pub fn statement<T: Signable>(signer: &Signer, entries: &[T], at: DateTime<Utc>) -> SignedStatement {
    // Strings and ids always serialise.
    let signed = signer.sign(entries, Uuid::now_v7(), at, rand::random);
    signed.unwrap_or_else(|_| SignedStatement { jws: String::new(), disclosures: vec![] })
}

/// Any data in the envelope of a decision.
pub fn decided<T: Serialize>(data: T) -> Outgoing {
    let event =
        CloudEvent::new(Outgoing::fresh_id(), "/reviewers/app", kind::APPROVAL_DECIDED, Utc::now(), data);
    Outgoing::event(DECISIONS, "decision", &event)
}

/// An auditor app: consumes one group's audits and signs the finding that `find` answers for each; `None` leaves it open.
pub struct AuditorApp {
    task: JoinHandle<anyhow::Result<()>>,
}

impl AuditorApp {
    /// Connects with the auditor's own URL, signs with their key, and works until it is dropped.
    pub async fn start(
        url: &str,
        signer: Signer,
        group: &str,
        mut judge: impl FnMut(&AuditRequest) -> Option<FindingData> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let mut requests = Reader::open(url, "stand-in", &audits_queue(group)).await?;
        let publisher = Publisher::connect(url, "auditor-app").await?;
        let task = tokio::spawn(async move {
            loop {
                let Some(event) = requests.next::<AuditRequest>(Duration::from_secs(3600)).await? else {
                    return Ok(());
                };
                if let Some(finding) = judge(&event.data) {
                    publisher.publish(&[found(&signer, &[finding])]).await?;
                }
            }
        });
        Ok(Self { task })
    }
}

impl Drop for AuditorApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A finding on a request's digest. `Wrong` gets severity major, and the first reason code or `reason`.
pub fn finding(request: &AuditRequest, finding: Finding, reason: Option<&str>) -> FindingData {
    let wrong = finding == Finding::Wrong;
    FindingData {
        severity: wrong.then_some(Severity::Major),
        reason_code: request.reason_codes.first().filter(|_| wrong).cloned(),
        reason: reason.filter(|_| wrong).map(str::to_owned),
        ..FindingData::new(request.audit, &request.digest, finding)
    }
}

/// Findings as a message, signed now.
pub fn found(signer: &Signer, findings: &[FindingData]) -> Outgoing {
    finding_event(statement(signer, findings, Utc::now()))
}

/// Any data in the envelope of a finding.
pub fn finding_event<T: Serialize>(data: T) -> Outgoing {
    let event = CloudEvent::new(Outgoing::fresh_id(), "/auditors/app", kind::AUDIT_FINDING, Utc::now(), data);
    Outgoing::event(FINDINGS, "finding", &event)
}
