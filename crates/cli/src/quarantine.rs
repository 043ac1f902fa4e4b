//! `countersign quarantine`: messages that nobody could process.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use chrono::Utc;
use clap::Subcommand;
use countersign_app::quarantine::{self, QuarantinedMessage};
use countersign_broker::{
    publisher::Publisher,
    topology::{ACTIONS, DECISIONS},
};
use countersign_core::message::Command;
use countersign_runtime::messages;
use serde_json::json;

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
            let store = to.store()?;
            let tx = store.transaction().await?;
            let entry = countersign_store::quarantine::get(&tx, id)
                .await?
                .with_context(|| format!("there is no message {id}"))?;
            if ![ACTIONS, DECISIONS].contains(&entry.exchange.as_str()) || entry.truncated {
                anyhow::bail!(
                    "only whole proposals and decisions can be replayed; see `quarantine show {id}`"
                );
            }
            tx.commit().await?;
            let sent = Utc::now() - chrono::TimeDelta::seconds(5);
            let publisher = Publisher::connect(to.amqp()?, "countersign-cli:replay").await?;
            let command = messages::command("router", Command::Replay { quarantine: id }, Utc::now());
            publisher.publish(&[command]).await?;
            for _ in 0..100 {
                let tx = store.transaction().await?;
                let entry = countersign_store::quarantine::get(&tx, id).await?;
                if entry.is_some_and(|entry| entry.replayed_at.is_some_and(|at| at >= sent)) {
                    return show(to, &json!({"replayed": id}), || format!("message {id} was taken in again"));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::bail!(
                "it was sent, but no router has taken it in yet, or the message was cut and cannot be"
            )
        }
    }
}
