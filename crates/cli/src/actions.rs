//! `countersign actions`: what was proposed, and everything that happened to one action.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Context as _;
use clap::Subcommand;
use countersign_store::{
    Transaction,
    actions::{self, ActionRecord, LoadDepth},
    compensations, evidence, listing,
    listing::{ActionSummary, Filter},
};
use serde_json::{Value, json};

use crate::{
    Connections,
    output::{show, table},
};

/// Actions.
#[derive(Subcommand)]
pub(crate) enum ActionsCommand {
    /// The newest first
    List {
        /// Only in this state, such as succeeded or pending_approval
        #[arg(long)]
        state: Option<String>,
        /// Only this agent's
        #[arg(long)]
        agent: Option<String>,
        /// Only this tool's
        #[arg(long)]
        tool: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// The whole timeline of one
    Show {
        /// The agent's id for it, `source#id`, or Countersign's own
        id: String,
    },
}

pub(crate) async fn run(to: &Connections, command: ActionsCommand) -> anyhow::Result<ExitCode> {
    let tx = to.store()?.transaction().await?;
    match command {
        ActionsCommand::List { state, agent, tool, limit } => {
            let list = listing::actions(&tx, &Filter { state, agent, tool, from: None, limit }).await?;
            show(to, &list, || render(&list))
        }
        ActionsCommand::Show { id } => {
            let found = listing::find(&tx, &id).await?;
            let one = match found.as_slice() {
                [one] => one,
                [] => anyhow::bail!("there is no action {id:?}"),
                _ => anyhow::bail!("{id:?} is ambiguous; write source#id:\n{}", render(&found)),
            };
            let timeline = timeline(&tx, one).await?;
            show(to, &timeline, || text(&timeline))
        }
    }
}

/// Actions as a table.
pub(crate) fn render(list: &[ActionSummary]) -> String {
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

/// What a human approves, as JSON; null where it was never readable or has been erased.
pub(crate) fn content(record: &ActionRecord) -> Value {
    record.content.as_deref().and_then(|content| serde_json::from_slice(content).ok()).unwrap_or_default()
}

/// One action with everything that is stored of it, in order.
pub async fn timeline(tx: &Transaction, action: &ActionSummary) -> anyhow::Result<Value> {
    let record =
        actions::load(tx, &[action.id], LoadDepth::Request).await?.pop().context("the action is gone")?;
    let entries = evidence::timeline(tx, action.id).await?;
    Ok(json!({
        "action": action,
        "content": content(&record),
        "compensates": record.compensates,
        "compensated_by": compensations::proposed(tx, &[action.id]).await?.first().map(|(_, by)| by),
        "sampling": listing::draw(tx, action.id).await?,
        "timeline": entries,
    }))
}

/// The same for people.
pub fn text(timeline: &Value) -> String {
    let said = |pointer: &str| match timeline.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    // Writing into a String cannot fail.
    let mut out = String::new();
    let _ =
        writeln!(out, "{} {}: {}", said("/action/source"), said("/action/event_id"), said("/action/state"));
    let _ = writeln!(out, "  {} {}", said("/action/tool"), said("/content/arguments"));
    let _ = writeln!(
        out,
        "  {} by rule {} of policy {}",
        said("/action/verdict"),
        said("/action/rule"),
        said("/action/policy_version")
    );
    for entry in timeline["timeline"].as_array().into_iter().flatten() {
        let at = entry["occurred_at"].as_str().unwrap_or_default();
        let at = at.get(11..23).unwrap_or(at);
        let _ = writeln!(
            out,
            "  {at}  {:<18} {}",
            entry["kind"].as_str().unwrap_or_default(),
            brief(&entry["body"])
        );
    }
    out
}

/// The members of an entry that a person looks for first.
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
