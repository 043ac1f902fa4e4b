//! `countersign erase` and `countersign legal-hold`: what is stored about a person, and what must not be erased.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use countersign_app::erasure::{self, Erase, Held, PlaceLegalHold, ReleaseLegalHold};
use countersign_core::ids::ActionId;

use crate::{
    Connections,
    output::{show, table},
};

/// The person to erase, and the operator.
#[derive(Args)]
#[command(
    after_help = "Looks for the subject as a JSON string in proposals, contents, results and corrections, and empties these for\n\
    every action that is found, with reasons and messages in quarantine. The ledger has none of it: its entries and\n\
    proofs stay as they are, and a bundle says what was erased. A legal hold forbids it, and so does an action that\n\
    has not ended. What agents, tools, reviewer apps and backups keep is not within reach.\n\n\
    Needs the database login of an operator who is a member of countersign_eraser."
)]
pub(crate) struct EraseArgs {
    /// The person, exactly as messages name them, such as mia_li_3668
    #[arg(long)]
    subject: String,
    /// Who does this; without it, the operator whose database login it is
    #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
    operator: Option<String>,
}

pub(crate) async fn run(to: &Connections, args: EraseArgs) -> anyhow::Result<ExitCode> {
    let EraseArgs { subject, operator } = args;
    let erased = erasure::erase(&to.app(), &Erase { subject, operator }).await?;
    show(to, &erased, || {
        let messages = erased.quarantined;
        format!(
            "erased of {} actions, and {messages} messages in quarantine: {}",
            erased.actions.len(),
            erased.id
        )
    })
}

/// Legal holds.
#[derive(Subcommand)]
pub(crate) enum LegalHoldCommand {
    /// Forbid to erase a person or an action
    Place {
        /// The person; kept as a salted digest
        #[arg(long, required_unless_present = "action", conflicts_with = "action")]
        subject: Option<String>,
        /// The action, by Countersign's own id
        #[arg(long)]
        action: Option<ActionId>,
        /// Why; names nobody
        #[arg(long)]
        reason: String,
        /// Who does this; without it, the operator whose database login it is
        #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
        operator: Option<String>,
    },
    /// Release a legal hold
    Release {
        /// The hold's number
        id: i64,
        /// Who does this; without it, the operator whose database login it is
        #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
        operator: Option<String>,
    },
    /// All of them, the newest first
    List,
}

pub(crate) async fn hold(to: &Connections, command: LegalHoldCommand) -> anyhow::Result<ExitCode> {
    match command {
        LegalHoldCommand::Place { subject, action, reason, operator } => {
            let held = match (subject, action) {
                (Some(subject), _) => Held::Subject(subject),
                (None, Some(action)) => Held::Action(action),
                (None, None) => anyhow::bail!("what? give --subject or --action"),
            };
            let request = PlaceLegalHold { held, reason, operator };
            let placed = erasure::place_hold(&to.app(), &request).await?;
            show(to, &placed, || format!("legal hold {} is placed", placed.hold))
        }
        LegalHoldCommand::Release { id, operator } => {
            let released = erasure::release_hold(&to.app(), &ReleaseLegalHold { id, operator }).await?;
            show(to, &released, || format!("legal hold {id} is released"))
        }
        LegalHoldCommand::List => {
            let holds = erasure::holds(&to.app()).await?;
            show(to, &holds, || {
                let mut table = table(["hold", "about", "reason", "placed by", "placed", "released"]);
                for hold in &holds {
                    table.add_row([
                        hold.id.to_string(),
                        hold.action.map_or_else(|| "a person".into(), |action| action.to_string()),
                        hold.reason.clone(),
                        hold.placed_by.clone(),
                        hold.placed_at.to_rfc3339(),
                        hold.released_at.map(|at| at.to_rfc3339()).unwrap_or_default(),
                    ]);
                }
                table.to_string()
            })
        }
    }
}
