//! `countersign stream`: reads the audit stream, as a compliance user.

use std::{io::Write as _, process::ExitCode, time::Duration};

use clap::Subcommand;
use countersign_broker::stream::{Offset, StreamReader};

use crate::Connections;

/// The audit stream.
#[derive(Subcommand)]
pub(crate) enum StreamCommand {
    /// Print entries as CloudEvents, one a line, as they come
    #[command(
        after_help = "Events that the stream repeats are left out, and a gap is an error. Goes on until it is interrupted,\n\
        or as --count and --idle say."
    )]
    Tail {
        /// Start with this entry of the ledger
        #[arg(long, default_value_t = 0, value_name = "INDEX")]
        from: u64,
        /// Stop after so many
        #[arg(long)]
        count: Option<u64>,
        /// Stop when nothing has come for this long, such as 5s
        #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
        idle: Option<Duration>,
    },
}

/// Longer than anybody waits; then the same again.
const PATIENCE: Duration = Duration::from_secs(3_600);

pub(crate) async fn run(to: &Connections, command: StreamCommand) -> anyhow::Result<ExitCode> {
    let StreamCommand::Tail { from, count, idle } = command;
    let mut reader = StreamReader::open(to.amqp()?, "countersign-cli:tail", Offset::First).await?;
    let (mut next, mut left) = (from, count.unwrap_or(u64::MAX));
    let mut first = true;
    while left > 0 {
        let Some(batch) = reader.next(idle.unwrap_or(PATIENCE)).await? else {
            if idle.is_some() {
                break;
            }
            continue;
        };
        let mut out = std::io::stdout().lock();
        for (event, text) in batch.events()?.iter().zip(batch.texts()?) {
            let index = event.index()?;
            anyhow::ensure!(
                index <= next || !first,
                "the stream begins with entry {index}, and {next} is older: `countersign export evidence` has it"
            );
            first = false;
            anyhow::ensure!(index <= next, "the stream has a gap: entry {index} comes where {next} should");
            if index < next || left == 0 {
                continue;
            }
            match writeln!(out, "{}", text.get()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                written => written?,
            }
            (next, left) = (next + 1, left - 1);
        }
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}
