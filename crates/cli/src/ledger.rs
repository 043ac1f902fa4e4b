//! `countersign ledger`: verify it, prove an action, check what was proved.

mod check;
pub(crate) mod key;
mod prove;
mod tiles;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;

use crate::Connections;

/// The ledger.
#[derive(Subcommand)]
pub(crate) enum LedgerCommand {
    /// Check database against tiles against checkpoints, and tables against entries
    #[command(
        after_help = "Names the first entry that is wrong, and exits with 1. The key is the ledger's public key from you, and\n\
        not from where the ledger is kept. Whoever owns the database and the folder can rewrite both: give --known\n\
        a checkpoint that was kept elsewhere, and what is older than it cannot have changed."
    )]
    Verify(verify::VerifyArgs),
    /// Everything that the ledger proves of one action, as JSON to be checked by others
    Prove {
        /// The agent's id for it, `source#id`, or Countersign's own
        action: String,
    },
    /// The proof that one checkpoint continues another, as JSON
    Continuity {
        /// A checkpoint that was kept
        #[arg(value_name = "FILE")]
        old: PathBuf,
    },
    /// Check a bundle or a proof of continuity: needs neither database nor broker
    #[command(after_help = "Example:\n  countersign ledger check bundle.json --key ledger.pub.jwk")]
    Check {
        /// What `prove` or `continuity` has printed
        file: PathBuf,
        /// The ledger's public key: ledger.pub.jwk, or a file with what `ledger key` prints
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Print the ledger's public key as other tools for transparency logs take it
    Key {
        /// ledger.pub.jwk
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The log's name: ledger.origin of countersign.toml
        #[arg(long)]
        origin: String,
    },
}

pub(crate) async fn run(to: &Connections, command: LedgerCommand) -> anyhow::Result<ExitCode> {
    match command {
        LedgerCommand::Verify(args) => verify::run(to, args).await,
        LedgerCommand::Prove { action } => prove::action(to, &action).await,
        LedgerCommand::Continuity { old } => prove::continuity(to, &old).await,
        LedgerCommand::Check { file, key } => check::run(to, &file, &key),
        LedgerCommand::Key { key, origin } => key::show(to, &key, &origin),
    }
}
