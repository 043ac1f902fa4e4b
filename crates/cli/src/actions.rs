//! `countersign actions`: lists actions, and shows the timeline of one.

use std::{fmt::Write as _, process::ExitCode};

use clap::Subcommand;
use countersign_app::actions::{self, ActionSummary, ListActions, Timeline};
use serde_json::Value;

use crate::{
    Connections,
    output::{show, table},
};

/// Actions.
#[derive(Subcommand)]
pub(crate) enum ActionsCommand {
    /// List actions, the newest first
    List {
        /// Only actions in this state, such as succeeded or pending_approval
        #[arg(long)]
        state: Option<String>,
        /// Only actions of this agent
        #[arg(long)]
        agent: Option<String>,
        /// Only calls of this tool
        #[arg(long)]
        tool: Option<String>,
        /// List at most this many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Show everything that happened to an action
    Show {
        /// The action: its agent's id for it, `source#id`, or Countersign's own id
        id: String,
    },
}

pub(crate) async fn run(to: &Connections, command: ActionsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ActionsCommand::List { state, agent, tool, limit } => {
            let list = actions::list(&to.app(), ListActions { state, agent, tool, limit }).await?;
            show(to, &list, || render(&list))
        }
        ActionsCommand::Show { id } => {
            let timeline = actions::show(&to.app(), &id).await?;
            show(to, &timeline, || text(&timeline))
        }
    }
}

/// Actions as a table.
fn render(list: &[ActionSummary]) -> String {
    let mut table = table(["action", "tool", "state", "verdict", "rule", "approvers", "proposed"]);
    for action in list {
        table.add_row([
            action.event_id.clone(),
            action.tool.clone(),
            action.state.clone(),
            action.verdict.clone(),
            action.rule.clone(),
            action.approvers.join(", "),
            action.proposed_at.format("%F %T").to_string(),
        ]);
    }
    table.to_string()
}

/// A timeline for people.
pub fn text(shown: &Timeline) -> String {
    let Timeline { action, content, timeline, .. } = shown;
    let arguments = content.get("arguments").map(ToString::to_string).unwrap_or_default();
    // Writing into a String cannot fail.
    let mut out = String::new();
    let _ = writeln!(out, "{} {}: {}", action.source, action.event_id, action.state);
    let _ = writeln!(out, "  {} {arguments}", action.tool);
    let _ = writeln!(out, "  {} by rule {} of policy {}", action.verdict, action.rule, action.policy_version);
    if let Some(why) = &shown.cannot_be_undone {
        let _ = writeln!(out, "  cannot be undone: {why}");
    }
    for entry in timeline {
        let at = entry.occurred_at.format("%H:%M:%S%.3f");
        let _ = writeln!(out, "  {at}  {:<18} {}", entry.kind, brief(&entry.body));
    }
    out
}

/// The most useful members of an entry, on one line.
fn brief(body: &Value) -> String {
    let keys = [
        "state",
        "verdict",
        "rule",
        "code",
        "reason_code",
        "error_code",
        "decision",
        "finding",
        "severity",
        "tool",
        "action",
        "owner",
        "resolution",
        "also",
        "by",
        "message",
        "attempts",
        "fence",
        "pi",
        "selected",
        "forced",
    ];
    let parts: Vec<String> = keys
        .iter()
        .filter_map(|key| match body.get(key)? {
            Value::Null => None,
            Value::String(text) => Some(format!("{key}={text}")),
            other => Some(format!("{key}={other}")),
        })
        .collect();
    parts.join(" ")
}
