//! `countersign quarantine`: messages that could not be processed.

use std::process::ExitCode;

use clap::Subcommand;
use countersign_app::quarantine::{self, QuarantinedMessage};

use crate::{
    Connections,
    output::{show, table},
};

/// The quarantine.
#[derive(Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List quarantined messages, the newest first
    List {
        /// List at most this many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Show one message with its bytes
    Show {
        /// The number of the message, see `quarantine list`
        id: i64,
    },
    /// Take a message in again, as its author's. --amqp-url is an administrator's
    Replay {
        /// The number of the message, see `quarantine list`
        id: i64,
    },
}

pub(crate) async fn run(to: &Connections, command: QuarantineCommand) -> anyhow::Result<ExitCode> {
    match command {
        QuarantineCommand::List { limit } => {
            let list = quarantine::list(&to.app(), limit).await?;
            show(to, &list, || {
                let mut table = table(["message", "code", "why", "author", "exchange", "since", "replayed"]);
                for entry in &list {
                    table.add_row([
                        entry.id.to_string(),
                        entry.code.clone(),
                        entry.message.clone(),
                        entry.author.clone().unwrap_or_default(),
                        entry.exchange.clone(),
                        entry.quarantined_at.format("%F %T").to_string(),
                        entry.replayed_at.map(|at| at.format("%F %T").to_string()).unwrap_or_default(),
                    ]);
                }
                table.to_string()
            })
        }
        QuarantineCommand::Show { id } => {
            let message = quarantine::show(&to.app(), id).await?;
            show(to, &message, || {
                let QuarantinedMessage { entry, body } = &message;
                let author = entry.author.as_deref().unwrap_or("unknown");
                format!("{}: {}\nauthor: {author}\n{body}", entry.code, entry.message)
            })
        }
        QuarantineCommand::Replay { id } => {
            let replayed = quarantine::replay(&to.app(), id).await?;
            show(to, &replayed, || format!("message {id} was replayed"))
        }
    }
}
