//! `countersign approvals`: what waits for a human, and a human's decision.

use countersign_app::apply::active;
use std::{path::PathBuf, process::ExitCode, time::Duration};

use chrono::Utc;
use clap::{Args, Subcommand};
use countersign_app::approvals::{self, ApprovalSummary, ListApprovals};
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    session::user_of,
    topology::DECISIONS,
};
use countersign_core::{
    approval::Requirement,
    ids::{ActionId, ApprovalId},
    message::{CloudEvent, Decision, DecisionData, kind},
    refusal::Code,
    signed::{Signer, thumbprint},
};
use countersign_policy::Sender;
use countersign_runtime::keys;
use countersign_store::{Store, evidence, statements};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Connections,
    args::usage,
    output::{show, table},
};

/// Approval requests.
#[derive(Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// List what waits for a decision, the most urgent first
    List {
        /// Only requests that this group may decide
        #[arg(long)]
        group: Option<String>,
        /// Only requests in this state: open, approved, rejected, expired, closed or all
        #[arg(long, default_value = "open")]
        state: String,
        /// List at most this many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Show everything that there is to decide on
    Show {
        /// The request's id
        id: ApprovalId,
    },
    /// Approve
    Approve {
        /// The request's id
        id: ApprovalId,
        /// Why
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        by: By,
    },
    /// Reject
    Reject {
        /// The request's id
        id: ApprovalId,
        /// Why: the agent reads it
        #[arg(long)]
        reason: Option<String>,
        /// Why, as one of the rule's codes; `approvals show` lists them
        #[arg(long, value_name = "CODE")]
        reason_code: Option<String>,
        #[command(flatten)]
        by: By,
    },
    /// Put other arguments in place of the agent's. What was approved before falls away
    Edit {
        /// The request's id
        id: ApprovalId,
        /// The arguments, as a JSON object
        #[arg(long, value_name = "JSON")]
        arguments: Value,
        /// Why
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        by: By,
    },
    /// Do not execute it, and send the agent a message: it may propose again
    Respond {
        /// The request's id
        id: ApprovalId,
        /// The message
        #[arg(long, value_name = "TEXT")]
        message: String,
        #[command(flatten)]
        by: By,
    },
}

/// Whose decision it is.
#[derive(Args)]
#[command(next_help_heading = "Who decides")]
pub(crate) struct By {
    /// Private key to sign with, as a JWK file, see `countersign keys signer`
    #[arg(long, value_name = "FILE", env = "REVIEWER_KEY")]
    key: PathBuf,
    /// The reviewer [default: whose --amqp-url it is; an app names for whom it speaks]
    #[arg(long, value_name = "ID")]
    reviewer: Option<String>,
}

pub(crate) async fn run(to: &Connections, command: ApprovalsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ApprovalsCommand::List { group, state, limit } => {
            let state = (state != "all").then_some(state);
            let list = approvals::list(&to.app(), &ListApprovals { group, state, limit }).await?;
            show(to, &list, || render(&list))
        }
        ApprovalsCommand::Show { id } => {
            let shown = approvals::show(&to.app().store()?, id).await?;
            show(to, &shown, || serde_json::to_string_pretty(&shown).unwrap_or_default())
        }
        ApprovalsCommand::Approve { id, reason, by } => {
            decide(to, by, id, |data| DecisionData { reason, ..data(Decision::Approve) }).await
        }
        ApprovalsCommand::Reject { id, reason, reason_code, by } => {
            decide(to, by, id, |data| DecisionData { reason, reason_code, ..data(Decision::Reject) }).await
        }
        ApprovalsCommand::Edit { id, arguments, reason, by } => {
            let arguments = Some(arguments);
            decide(to, by, id, |data| DecisionData { reason, arguments, ..data(Decision::Edit) }).await
        }
        ApprovalsCommand::Respond { id, message, by } => {
            let reason = Some(message);
            decide(to, by, id, |data| DecisionData { reason, ..data(Decision::Respond) }).await
        }
    }
}

fn render(list: &[ApprovalSummary]) -> String {
    if list.is_empty() {
        return "no approval requests".into();
    }
    let mut table = table(["approval", "action", "tool", "needs", "so far", "why", "state", "until"]);
    for approval in list {
        table.add_row([
            approval.id.to_string(),
            approval.event_id.clone(),
            approval.tool.clone(),
            needs(&approval.require),
            so_far(approval.decisions.as_ref()),
            format!("{}: {}", approval.rule, approval.rule_text),
            approval.state.clone(),
            approval.expires_at.format("%F %T").to_string(),
        ]);
    }
    table.to_string()
}

/// `2 of treasury, 1 of risk`.
fn needs(require: &Value) -> String {
    let require: Vec<Requirement> = serde_json::from_value(require.clone()).unwrap_or_default();
    let needs = require.iter().map(|one| format!("{} of {}", one.count, one.group));
    needs.collect::<Vec<_>>().join(", ")
}

/// `sam: approve`.
fn so_far(decisions: Option<&Value>) -> String {
    let said = decisions.and_then(Value::as_object).into_iter().flatten();
    let said = said.map(|(who, what)| format!("{who}: {}", what.as_str().unwrap_or("?")));
    said.collect::<Vec<_>>().join(", ")
}

async fn decide(
    to: &Connections,
    by: By,
    approval: ApprovalId,
    data: impl FnOnce(&dyn Fn(Decision) -> DecisionData) -> DecisionData,
) -> anyhow::Result<ExitCode> {
    let store = to.store()?;
    let digest = approvals::show(&store, approval).await?.digest;
    let url = to.amqp()?;
    let key = keys::signing_key(&by.key)?;
    let reviewer = match by.reviewer {
        Some(reviewer) => reviewer,
        None => reviewer_of(&store, url).await?,
    };
    let data = data(&|decision| DecisionData {
        approval,
        digest: digest.clone(),
        decision,
        reason_code: None,
        reason: None,
        arguments: None,
    });
    let decision = data.decision;
    let (kid, jti) = (thumbprint(&key.verifying_key()), Uuid::now_v7());
    let signed = Signer::new(&reviewer, key).sign(&[data], jti, Utc::now(), rand::random)?;
    let source = format!("/reviewers/{reviewer}");
    let event = CloudEvent::new(Outgoing::fresh_id(), &source, kind::APPROVAL_DECIDED, Utc::now(), signed);
    let publisher = Publisher::connect(url, "countersign-cli:decide").await?;
    publisher.publish(&[Outgoing::event(DECISIONS, "decision", &event)]).await?;
    let action = approvals::action_of(&store, approval).await?;
    let mut answer = heard(&store, action, &event.id).await?;
    let applied = answer["kind"] != "decision.refused";
    if !applied {
        answer["message"] = why(&store, &kid, &jti.to_string(), answer["code"].as_str()).await?.into();
    }
    show(to, &answer, || match applied {
        true => format!("{}: the action is {}", decision.as_str(), answer["state"].as_str().unwrap_or("?")),
        false => format!(
            "refused ({}): {}",
            answer["code"].as_str().unwrap_or("?"),
            answer["message"].as_str().unwrap_or("")
        ),
    })?;
    Ok(if applied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why a decision was refused: as it was answered, or what its code means. Evidence has no free text.
async fn why(store: &Store, kid: &str, jti: &str, code: Option<&str>) -> anyhow::Result<String> {
    let tx = store.transaction().await?;
    let answers = statements::known(&tx, &[(kid, jti)]).await?.pop().map(|known| known.answers);
    let answered = answers.and_then(|mut answers| answers.pop()?.message);
    let meaning = || Code::ALL.iter().find(|known| Some(known.as_str()) == code).map(|known| known.meaning());
    Ok(answered.or_else(|| meaning().map(str::to_owned)).unwrap_or_default())
}

/// The reviewer whose AMQP user it is.
async fn reviewer_of(store: &Store, amqp_url: &str) -> anyhow::Result<String> {
    let user = user_of(amqp_url).unwrap_or_default();
    match active(store).await?.directory.sender_of_user(&user) {
        Some(Sender::Reviewer(reviewer)) => Ok(reviewer.id.clone()),
        Some(Sender::App(app)) => {
            let speaks_for: Vec<&str> = app.reviewers.iter().map(String::as_str).collect();
            Err(usage(format!("the app {:?} speaks for {}; give --reviewer", app.id, speaks_for.join(", "))))
        }
        Some(Sender::Auditor(_)) | None => {
            Err(usage(format!("the AMQP user {user:?} is no reviewer of the active directory")))
        }
    }
}

/// Waits for the evidence of what became of a decision or finding, by the id of its event.
pub(crate) async fn heard(store: &Store, action: ActionId, event: &str) -> anyhow::Result<Value> {
    for _ in 0..100 {
        let tx = store.transaction().await?;
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
