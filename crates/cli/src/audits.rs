//! `countersign audits`: what was sampled, and an auditor's finding.

mod judge;
mod prove;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use countersign_core::{digest::tagged, ids::AuditId};
use countersign_runtime::messages;
use countersign_store::{
    actions::{self, LoadDepth},
    audits, listing,
};
use serde_json::{Value, json};

use crate::{
    Connections,
    actions::content,
    apply::active,
    output::{show, table},
};

/// Audits.
#[derive(Subcommand)]
pub(crate) enum AuditsCommand {
    /// What waits to be judged, the oldest first
    List {
        /// Only this group's
        #[arg(long)]
        group: Option<String>,
        /// open, judged or all
        #[arg(long, default_value = "open")]
        state: String,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Everything that there is to judge
    Show {
        /// The audit's id
        id: AuditId,
    },
    /// Draw the coin again: check every selection of the epochs that have closed
    #[command(
        after_help = "SHA-256 of an epoch's key became evidence when the epoch opened, the key itself after it closed.\n\
        With it every throw is made again: R, and whether R selects the action at its stored π."
    )]
    Prove {
        /// Only this epoch
        #[arg(long)]
        epoch: Option<i64>,
    },
    /// Judge
    Judge(judge::JudgeArgs),
}

pub(crate) async fn run(to: &Connections, command: AuditsCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditsCommand::List { group, state, limit } => {
            let tx = to.store()?.transaction().await?;
            let state = (state != "all").then_some(state);
            let list = listing::audits(&tx, group.as_deref(), state.as_deref(), limit).await?;
            show(to, &list, || {
                if list.is_empty() {
                    return "nothing waits".into();
                }
                let mut table =
                    table(["audit", "action", "tool", "outcome", "group", "reason", "finding", "severity"]);
                for audit in &list {
                    table.add_row([
                        audit.id.to_string(),
                        audit.event_id.clone(),
                        audit.tool.clone(),
                        audit.outcome.clone(),
                        audit.group.clone(),
                        audit.reason.clone(),
                        audit.finding.clone().unwrap_or_default(),
                        audit.severity.clone().unwrap_or_default(),
                    ]);
                }
                table.to_string()
            })
        }
        AuditsCommand::Show { id } => {
            let shown = shown(to, id).await?;
            show(to, &shown, || serde_json::to_string_pretty(&shown).unwrap_or_default())
        }
        AuditsCommand::Prove { epoch } => prove::run(to, epoch).await,
        AuditsCommand::Judge(args) => judge::run(to, args).await,
    }
}

async fn shown(to: &Connections, id: AuditId) -> anyhow::Result<Value> {
    let store = to.store()?;
    let configuration = active(&store).await?;
    let tx = store.transaction().await?;
    let found = audits::actions_of(&tx, &[id]).await?;
    let action = *found.first().with_context(|| format!("there is no audit {id}"))?;
    let record =
        actions::load(&tx, &[action], LoadDepth::Bodies).await?.pop().context("the action is gone")?;
    let outcome = record.outcome.as_ref();
    let offer = messages::offer(&configuration.tools, &record);
    Ok(json!({
        "audit": id, "action": record.reference, "outcome": record.status.state, "rule": record.status.rule,
        "digest": tagged(&record.digest), "content": content(&record),
        "reason_codes": configuration.policy.audits().reason_codes,
        "compensation": offer.as_ref().ok(), "cannot_be_undone": offer.as_ref().err(),
        "result": outcome.and_then(|outcome| outcome.result.as_deref())
            .and_then(|result| serde_json::from_slice::<Value>(result).ok()),
        "error": outcome.and_then(|outcome| outcome.error.clone()),
    }))
}
