//! `countersign audits`: lists, shows and judges audits, and proves the draws.

mod judge;
mod prove;

use std::process::ExitCode;

use clap::Subcommand;
use countersign_app::audits::{self, ListAudits};
use countersign_core::ids::AuditId;

use crate::{
    Connections,
    output::{show, table},
};

/// Audits.
#[derive(Subcommand)]
pub(crate) enum AuditsCommand {
    /// List audits, the oldest first; by default those that are open
    List {
        /// Only audits that this group may judge
        #[arg(long)]
        group: Option<String>,
        /// Only audits in this state: open, judged or all
        #[arg(long, default_value = "open")]
        state: String,
        /// List at most this many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Show what a finding needs: the call, its result, the rule
    Show {
        /// The audit's id
        id: AuditId,
    },
    /// Repeat the sampling draws of the epochs that have closed, and check every selection
    #[command(
        after_help = "The SHA-256 of an epoch's key became evidence when the epoch opened, the key itself after it closed.\n\
        With the key, every draw is repeated: R, whether R selects the action at its stored π, whether a policy that\n\
                      was in force can have asked for that π, and whether what was selected has an audit;\n\
                      of rules with a score whether the action has the score that is stored (`unscored`: how many can no\n\
                      longer be evaluated, because the content has been erased);\n\
                      of gold items whether the key asks for them, and which earlier audits they show. An epoch in whose time\n\
                      an executed action ended that has no draw is `undrawn`: that is so too while the sampler is behind."
    )]
    Prove {
        /// Only this epoch
        #[arg(long)]
        epoch: Option<i64>,
    },
    /// Judge an audited action
    Judge(judge::JudgeArgs),
}

pub(crate) async fn run(to: &Connections, command: AuditsCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditsCommand::List { group, state, limit } => {
            let state = (state != "all").then_some(state);
            let list = audits::list(&to.app(), &ListAudits { group, state, limit }).await?;
            show(to, &list, || {
                if list.is_empty() {
                    return "no audits".into();
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
            let shown = audits::show(&to.app().store()?, id).await?;
            show(to, &shown, || serde_json::to_string_pretty(&shown).unwrap_or_default())
        }
        AuditsCommand::Prove { epoch } => prove::run(to, epoch).await,
        AuditsCommand::Judge(args) => judge::run(to, args).await,
    }
}
