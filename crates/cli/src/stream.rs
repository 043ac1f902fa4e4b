//! `countersign stream`: reads the audit stream, as a compliance user.

use std::{io, process::ExitCode, time::Duration};

use clap::Subcommand;
use countersign_app::stream::{TailStream, tail};

use crate::Connections;

/// The audit stream.
#[derive(Subcommand)]
pub(crate) enum StreamCommand {
    /// Print the entries of the ledger as CloudEvents, one a line, as they come
    #[command(
        after_help = "Leaves out what the stream repeats, and fails at a gap. Goes on until it is interrupted, or until --count\n\
        or --idle ends it."
    )]
    Tail {
        /// Start with the entry of this index
        #[arg(long, default_value_t = 0, value_name = "INDEX")]
        from: u64,
        /// Stop after this many entries
        #[arg(long)]
        count: Option<u64>,
        /// Stop when no entry has come for this long, such as 5s
        #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
        idle: Option<Duration>,
    },
}

pub(crate) async fn run(to: &Connections, command: StreamCommand) -> anyhow::Result<ExitCode> {
    let StreamCommand::Tail { from, count, idle } = command;
    tail(&to.app(), TailStream { from, count, idle }, &mut io::stdout()).await?;
    Ok(ExitCode::SUCCESS)
}
