//! `countersign hold`: stop permits and claims at once.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use countersign_app::holds::{self, PlaceHold, ReleaseHold, Scope, StoreError};

use crate::{
    Connections,
    args::usage,
    output::{show, table},
};

/// Stop and release.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Without --agent, --tool or --rule everything is held. When the command returns, no permit is issued and no\n\
claim starts for what is held; calls that had started go on. Nothing is lost: what is held waits.\n\n\
Examples:\n  countersign hold --tool send_certificate --operator olga --reason 'duplicate certificates'\n  \
countersign hold list\n  countersign hold release 3 --operator omar"
)]
pub(crate) struct HoldArgs {
    #[command(subcommand)]
    command: Option<HoldCommand>,
    /// Hold only this agent's actions
    #[arg(long, value_name = "ID", group = "scope")]
    agent: Option<String>,
    /// Hold only this tool's calls
    #[arg(long, value_name = "NAME", group = "scope")]
    tool: Option<String>,
    /// Hold only what this rule decides
    #[arg(long, value_name = "ID", group = "scope")]
    rule: Option<String>,
    /// Who does this; without it, the operator whose database login it is
    #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
    operator: Option<String>,
    /// Why
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Subcommand)]
enum HoldCommand {
    /// The holds in force
    List,
    /// Release a hold that another operator placed
    Release {
        /// The hold's number
        id: i64,
        /// Who does this, and not who placed it; without it, the operator whose database login it is
        #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
        operator: Option<String>,
    },
}

pub(crate) async fn run(to: &Connections, args: HoldArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(HoldCommand::List) => list(to).await,
        Some(HoldCommand::Release { id, operator }) => {
            let released = holds::release(&to.app(), &ReleaseHold { id, operator }).await?;
            show(to, &released, || format!("hold {id} is released"))
        }
        None => {
            let reason = args.reason.ok_or_else(|| usage("why? give --reason"))?;
            let (scope, name) = match (args.agent, args.tool, args.rule) {
                (Some(agent), _, _) => (Scope::Agent, agent),
                (_, Some(tool), _) => (Scope::Tool, tool),
                (_, _, Some(rule)) => (Scope::Rule, rule),
                _ => (Scope::Everything, String::new()),
            };
            let request = PlaceHold { scope, name, reason, operator: args.operator };
            let retrying = |error: &StoreError| eprintln!("not yet ({error}); trying again");
            let placed = holds::place(&to.app(), &request, retrying).await?;
            show(to, &placed, || {
                format!("hold {} is in force: {} {}", placed.hold, scope.as_str(), request.name)
            })
        }
    }
}

async fn list(to: &Connections) -> anyhow::Result<ExitCode> {
    let open = holds::list(&to.app()).await?;
    show(to, &open, || {
        if open.is_empty() {
            return "nothing is held".into();
        }
        let mut table = table(["hold", "what", "which", "by", "since", "why"]);
        for hold in &open {
            table.add_row([
                hold.id.to_string(),
                hold.scope.as_str().into(),
                hold.name.clone(),
                hold.held_by.clone(),
                hold.held_at.format("%F %T").to_string(),
                hold.reason.clone(),
            ]);
        }
        table.to_string()
    })
}
