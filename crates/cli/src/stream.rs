//! `countersign stream`: reads the audit stream, as a compliance user.

use std::{cmp::Ordering, io::Write as _, process::ExitCode, time::Duration};

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

/// Names the connection.
const NAME: &str = "countersign-cli:tail";

/// Where a reading ends.
enum End {
    /// Everything that was asked for has been printed, or nobody reads it any more.
    Done,
    /// This entry comes where an older one should.
    Gap(u64),
}

/// What is left to print.
struct Tail {
    next: u64,
    left: u64,
    idle: Option<Duration>,
}

pub(crate) async fn run(to: &Connections, command: StreamCommand) -> anyhow::Result<ExitCode> {
    let StreamCommand::Tail { from, count, idle } = command;
    let mut tail = Tail { next: from, left: count.unwrap_or(u64::MAX), idle };
    let start = StreamReader::seek(to.amqp()?, NAME, from).await?;
    let mut end = tail.read(to.amqp()?, start).await?;
    if let (End::Gap(_), true) = (&end, start != Offset::First) {
        // What was repeated there had hidden it.
        end = tail.read(to.amqp()?, Offset::First).await?;
    }
    match end {
        End::Done => Ok(ExitCode::SUCCESS),
        End::Gap(index) if tail.next == from => anyhow::bail!(
            "the stream begins with entry {index}, and {from} is older: `countersign export evidence` has it"
        ),
        End::Gap(index) => {
            anyhow::bail!("the stream has a gap: entry {index} comes where {} should", tail.next)
        }
    }
}

impl Tail {
    async fn read(&mut self, url: &str, from: Offset) -> anyhow::Result<End> {
        let mut reader = StreamReader::open(url, NAME, from).await?;
        while self.left > 0 {
            let Some(batch) = reader.next(self.idle.unwrap_or(PATIENCE)).await? else {
                if self.idle.is_some() {
                    break;
                }
                continue;
            };
            let mut out = std::io::stdout().lock();
            for (event, text) in batch.events()?.iter().zip(batch.texts()?) {
                let index = event.index()?;
                match index.cmp(&self.next) {
                    _ if self.left == 0 => break,
                    Ordering::Less => continue,
                    Ordering::Equal => {}
                    Ordering::Greater => return Ok(End::Gap(index)),
                }
                match writeln!(out, "{}", text.get()) {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(End::Done),
                    written => written?,
                }
                (self.next, self.left) = (index + 1, self.left - 1);
            }
            out.flush()?;
        }
        Ok(End::Done)
    }
}
