//! `countersign remediations`: errors that no tool can undo and people must fix.

use std::process::ExitCode;

use clap::Subcommand;
use countersign_app::remediations::{self, CloseRemediation, ListRemediations};
use uuid::Uuid;

use crate::{
    Connections,
    output::{show, table},
};

/// Remediation tasks.
#[derive(Subcommand)]
pub(crate) enum RemediationsCommand {
    /// List open tasks, the most urgent first
    List {
        /// List closed tasks as well
        #[arg(long)]
        all: bool,
        /// List at most this many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Close a task with what shows that it is done
    Close {
        /// The task's id
        id: Uuid,
        /// What shows it: a letter's number, a link, a sentence
        #[arg(long, value_name = "TEXT")]
        evidence: String,
        /// Who does this; without it, the operator whose database login it is
        #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
        operator: Option<String>,
    },
}

pub(crate) async fn run(to: &Connections, command: RemediationsCommand) -> anyhow::Result<ExitCode> {
    match command {
        RemediationsCommand::List { all, limit } => {
            let list = remediations::list(&to.app(), ListRemediations { all, limit }).await?;
            show(to, &list, || {
                if list.is_empty() {
                    return "no remediation tasks are open".into();
                }
                let mut table = table(["task", "action", "tool", "owner", "why", "due", "closed with"]);
                for task in &list {
                    let overdue = if task.overdue { " (overdue)" } else { "" };
                    table.add_row([
                        task.id.to_string(),
                        task.event_id.clone(),
                        task.tool.clone(),
                        task.owner.clone(),
                        task.reason.clone(),
                        format!("{}{overdue}", task.due_at.format("%F %T")),
                        task.evidence.clone().unwrap_or_default(),
                    ]);
                }
                table.to_string()
            })
        }
        RemediationsCommand::Close { id, evidence, operator } => {
            let request = CloseRemediation { id, evidence, operator };
            let closed = remediations::close(&to.app(), &request).await?;
            show(to, &closed, || format!("task {id} is closed"))
        }
    }
}
