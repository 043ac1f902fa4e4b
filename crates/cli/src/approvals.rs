//! `countersign approvals`: what waits for a human, and a human's decision.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use chrono::Utc;
use clap::Subcommand;
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    session::user_of,
    topology::DECISIONS,
};
use countersign_core::{
    digest::tagged,
    ids::{ActionId, ApprovalId},
    message::{CloudEvent, Decision, DecisionData, kind},
};
use countersign_store::{
    Store, actions, approvals, evidence,
    listing::{self, ApprovalSummary},
};
use serde_json::{Value, json};

use crate::{
    Connections,
    actions::content,
    output::{show, table},
};

/// Approval requests.
#[derive(Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// What waits, the most urgent first
    List {
        /// Only this group's
        #[arg(long)]
        group: Option<String>,
        /// open, approved, rejected, expired, closed or all
        #[arg(long, default_value = "open")]
        state: String,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Everything that there is to decide on
    Show {
        /// The request's id
        id: ApprovalId,
    },
    /// Approve, as the reviewer whose --amqp-url it is
    Approve {
        /// The request's id
        id: ApprovalId,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Reject, as the reviewer whose --amqp-url it is
    Reject {
        /// The request's id
        id: ApprovalId,
        /// Why: the agent reads it
        #[arg(long)]
        reason: String,
    },
}

pub(crate) async fn run(to: &Connections, command: ApprovalsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ApprovalsCommand::List { group, state, limit } => {
            let mut client = to.store()?.client().await?;
            let tx = client.transaction().await?;
            let state = (state != "all").then_some(state);
            let list = listing::approvals(&tx, group.as_deref(), state.as_deref(), limit).await?;
            show(to, &list, || render(&list))
        }
        ApprovalsCommand::Show { id } => {
            let shown = shown(&to.store()?, id).await?;
            show(to, &shown, || serde_json::to_string_pretty(&shown).unwrap_or_default())
        }
        ApprovalsCommand::Approve { id, reason } => decide(to, id, Decision::Approve, reason).await,
        ApprovalsCommand::Reject { id, reason } => decide(to, id, Decision::Reject, Some(reason)).await,
    }
}

fn render(list: &[ApprovalSummary]) -> String {
    if list.is_empty() {
        return "nothing waits".into();
    }
    let mut table = table(["approval", "action", "tool", "group", "why", "state", "until"]);
    for approval in list {
        table.add_row([
            approval.id.to_string(),
            approval.event_id.clone(),
            approval.tool.clone(),
            approval.group.clone(),
            format!("{}: {}", approval.rule, approval.rule_text),
            approval.state.clone(),
            approval.expires_at.format("%F %T").to_string(),
        ]);
    }
    table.to_string()
}

async fn action_of(store: &Store, id: ApprovalId) -> anyhow::Result<ActionId> {
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    let found = approvals::actions_of(&tx, &[id]).await?;
    let (_, action) = found.first().with_context(|| format!("there is no approval request {id}"))?;
    Ok(*action)
}

async fn shown(store: &Store, id: ApprovalId) -> anyhow::Result<Value> {
    let action = action_of(store, id).await?;
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    let record = actions::load(&tx, &[action], true).await?.pop().context("the action is gone")?;
    let approval = record.approval.as_ref().context("the request is gone")?;
    Ok(json!({
        "approval": id, "action": record.reference, "state": record.ruling.state,
        "rule": record.ruling.rule, "why": approval.rule_text, "group": approval.group,
        "opened_at": approval.opened_at, "expires_at": approval.expires_at, "decided_by": approval.decided_by,
        "digest": tagged(&record.digest), "content": content(&record),
        "reason": record.body.as_deref()
            .and_then(|body| serde_json::from_slice::<Value>(body).ok())
            .and_then(|body| body.pointer("/data/reason").cloned()),
    }))
}

async fn decide(
    to: &Connections,
    approval: ApprovalId,
    decision: Decision,
    reason: Option<String>,
) -> anyhow::Result<ExitCode> {
    let store = to.store()?;
    let seen = shown(&store, approval).await?;
    let digest = seen["digest"].as_str().unwrap_or_default().to_owned();
    let url = to.amqp()?;
    let source = format!("/reviewers/{}", user_of(url).unwrap_or_default());
    let data = DecisionData { approval, digest, decision, reason };
    let event = CloudEvent::new(Outgoing::fresh_id(), &source, kind::APPROVAL_DECIDED, Utc::now(), data);
    let publisher = Publisher::connect(url, "countersign-cli:decide").await?;
    publisher.publish(&[Outgoing::event(DECISIONS, "decision", &event)]).await?;
    let action = action_of(&store, approval).await?;
    let answer = heard(&store, action, &event.id).await?;
    let applied = answer["kind"] != "decision.refused";
    show(to, &answer, || match applied {
        true => format!("{}: the action is {}", decision.as_str(), answer["state"].as_str().unwrap_or("?")),
        false => format!("refused ({}): {}", answer["code"].as_str().unwrap_or("?"), answer["message"]),
    })?;
    Ok(if applied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for the evidence of what became of a decision or finding, by the id of its event.
pub(crate) async fn heard(store: &Store, action: ActionId, event: &str) -> anyhow::Result<Value> {
    for _ in 0..100 {
        let mut client = store.client().await?;
        let tx = client.transaction().await?;
        let timeline = evidence::timeline(&tx, action).await?;
        if let Some(entry) = timeline.into_iter().rev().find(|entry| entry.body["event"] == event) {
            let mut body = entry.body;
            body["kind"] = entry.kind.into();
            return Ok(body);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!(
        "it was sent, but nobody has applied it yet; `countersign actions show {action}` tells when"
    )
}
