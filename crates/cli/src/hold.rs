//! `countersign hold`: stop permits and claims at once.

use countersign_app::apply::active;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use countersign_policy::{Configuration, Tool};
use countersign_store::{
    Store, StoreError, generation,
    holds::{self, Scope},
};
use serde_json::json;

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
    /// Who does this: an operator of the directory
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
    /// Let a hold go that another operator placed
    Release {
        /// The hold's number
        id: i64,
        /// Who does this: not the one who placed it
        #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
        operator: String,
    },
}

pub(crate) async fn run(to: &Connections, args: HoldArgs) -> anyhow::Result<ExitCode> {
    let store = to.store()?;
    match args.command {
        Some(HoldCommand::List) => list(to, &store).await,
        Some(HoldCommand::Release { id, operator }) => {
            operates(&store, &operator).await?;
            let generation = release(&store, id, &operator).await?;
            show(to, &json!({"hold": id, "generation": generation}), || format!("hold {id} is released"))
        }
        None => {
            let operator = args.operator.ok_or_else(|| usage("who holds? give --operator"))?;
            let reason = args.reason.ok_or_else(|| usage("why? give --reason"))?;
            let (scope, name) = match (args.agent, args.tool, args.rule) {
                (Some(agent), _, _) => (Scope::Agent, agent),
                (_, Some(tool), _) => (Scope::Tool, tool),
                (_, _, Some(rule)) => (Scope::Rule, rule),
                _ => (Scope::Everything, String::new()),
            };
            operates(&store, &operator).await?;
            known(&active(&store).await?, scope, &name)?;
            let (id, generation) = place(&store, scope, &name, &reason, &operator).await?;
            let value = json!({"hold": id, "generation": generation});
            show(to, &value, || format!("hold {id} is in force: {} {name}", scope.as_str()))
        }
    }
}

/// A hold on a misspelt name would hold nothing, and say that it is in force.
fn known(active: &Configuration, scope: Scope, name: &str) -> anyhow::Result<()> {
    let names: Vec<&str> = match scope {
        Scope::Everything => return Ok(()),
        Scope::Agent => active.directory.agents().iter().map(|agent| agent.id.as_str()).collect(),
        Scope::Tool => active.tools.iter().map(Tool::name).collect(),
        Scope::Rule => active.policy.rule_ids().collect(),
    };
    if names.contains(&name) {
        return Ok(());
    }
    let (scope, names) = (scope.as_str(), names.join(", "));
    Err(usage(format!("there is no {scope} {name:?} in the active configuration; there are {names}")))
}

pub(crate) async fn operates(store: &Store, operator: &str) -> anyhow::Result<()> {
    let known = active(store).await?.directory.operator(operator).is_some();
    anyhow::ensure!(known, "{operator:?} is no operator of the active directory");
    Ok(())
}

/// How often a hold is tried that could not get its lock: readers come and go in milliseconds.
const TRIES: usize = 5;

/// Places a hold. Returns its number and the generation from which it is in force.
pub(crate) async fn place(
    store: &Store,
    scope: Scope,
    name: &str,
    reason: &str,
    by: &str,
) -> anyhow::Result<(i64, i64)> {
    for left in (0..TRIES).rev() {
        let placed = async {
            let tx = store.transaction().await?;
            let placed = holds::place(&tx, scope, name, reason, by).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(placed)
        };
        match placed.await {
            Err(StoreError::Statement(error)) if left > 0 => {
                eprintln!("not yet ({error}); trying again");
            }
            other => return Ok(other?),
        }
    }
    anyhow::bail!("the hold could not be placed")
}

async fn release(store: &Store, id: i64, by: &str) -> anyhow::Result<i64> {
    let tx = store.transaction().await?;
    let generation = holds::release(&tx, id, by).await?;
    tx.commit().await?;
    Ok(generation)
}

async fn list(to: &Connections, store: &Store) -> anyhow::Result<ExitCode> {
    let (tx, _) = generation::begin(store).await?;
    let open = holds::open(&tx).await?;
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
