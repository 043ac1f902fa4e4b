//! `countersign approvals`: lists and shows approval requests, and decides them.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use countersign_app::{
    approvals::{self, ApprovalSummary, ListApprovals},
    decisions::{self, Decide, Decision},
};
use countersign_core::{approval::Requirement, ids::ApprovalId};
use serde_json::Value;

use crate::{
    Connections,
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
    /// Show what a decision needs: the call, the agent, the rule, earlier votes
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
    /// Replace the agent's arguments. Earlier approvals no longer count
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

/// The decision's reviewer and key.
#[derive(Args)]
#[command(next_help_heading = "Who decides")]
pub(crate) struct By {
    /// Private key to sign with, as a JWK file, see `countersign keys signer`
    #[arg(long, value_name = "FILE", env = "REVIEWER_KEY")]
    key: PathBuf,
    /// The reviewer [default: the user of --amqp-url; an app names its reviewer]
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
            decide(to, Decide { reason, ..by.decides(id, Decision::Approve) }).await
        }
        ApprovalsCommand::Reject { id, reason, reason_code, by } => {
            decide(to, Decide { reason, reason_code, ..by.decides(id, Decision::Reject) }).await
        }
        ApprovalsCommand::Edit { id, arguments, reason, by } => {
            let arguments = Some(arguments);
            decide(to, Decide { reason, arguments, ..by.decides(id, Decision::Edit) }).await
        }
        ApprovalsCommand::Respond { id, message, by } => {
            decide(to, Decide { reason: Some(message), ..by.decides(id, Decision::Respond) }).await
        }
    }
}

impl By {
    /// A decision without reasons or arguments.
    fn decides(self, approval: ApprovalId, decision: Decision) -> Decide {
        let Self { key, reviewer } = self;
        Decide { approval, decision, reason_code: None, reason: None, arguments: None, reviewer, key }
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
    let decided = decisions.and_then(Value::as_object).into_iter().flatten();
    let decided = decided.map(|(who, what)| format!("{who}: {}", what.as_str().unwrap_or("?")));
    decided.collect::<Vec<_>>().join(", ")
}

async fn decide(to: &Connections, request: Decide) -> anyhow::Result<ExitCode> {
    let decision = request.decision;
    let answer = decisions::decide(&to.app(), request).await?;
    let text = |member| answer.text(member);
    show(to, &answer, || match answer.applied {
        true => format!("{}: the action is {}", decision.as_str(), text("state").unwrap_or("?")),
        false => {
            format!("refused ({}): {}", text("code").unwrap_or("?"), text("message").unwrap_or_default())
        }
    })?;
    Ok(if answer.applied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
