//! The audit stream: reads the ledger's entries as CloudEvents as they are published.

use std::{
    cmp::Ordering,
    io::{self, Write},
    time::Duration,
};

use countersign_broker::stream::{Offset, StreamReader};

use crate::{AppError, Connections};

/// Which entries are read.
#[derive(Clone, Copy, Debug)]
pub struct TailStream {
    /// The first entry, by its index in the ledger.
    pub from: u64,
    /// Stop after this many; without it, go on.
    pub count: Option<u64>,
    /// Stop when nothing has come for this long; without it, wait.
    pub idle: Option<Duration>,
}

/// How long to wait for the next batch without `idle`.
const WAIT: Duration = Duration::from_secs(3_600);

/// Names the connection.
const NAME: &str = "countersign-app:tail";

/// Why reading ended.
enum End {
    /// Everything requested has been written, or the output was closed.
    Done,
    /// This entry came instead of an older one.
    Gap(u64),
}

/// The state of a reader.
struct Tail {
    next: u64,
    left: u64,
    idle: Option<Duration>,
}

/// Writes entries as CloudEvents, one a line, as they come. Events that the stream repeats are left out.
///
/// # Errors
/// Where the stream has a gap or begins later, or it cannot be read or the output not be written.
pub async fn tail(
    connections: &Connections,
    request: TailStream,
    out: &mut (dyn Write + Send),
) -> Result<(), AppError> {
    let TailStream { from, count, idle } = request;
    let url = connections.amqp()?;
    let mut tail = Tail { next: from, left: count.unwrap_or(u64::MAX), idle };
    let start = StreamReader::seek(url, NAME, from).await?;
    let mut end = tail.read(url, start, out).await?;
    if let (End::Gap(_), true) = (&end, start != Offset::First) {
        // Repeated entries had misled the search for its offset.
        end = tail.read(url, Offset::First, out).await?;
    }
    match end {
        End::Done => Ok(()),
        End::Gap(index) if tail.next == from => Err(AppError::State(format!(
            "the stream begins with entry {index}, and {from} is older: `countersign export evidence` has it"
        ))),
        End::Gap(index) => Err(AppError::Corrupt(format!(
            "the stream has a gap: entry {index} comes where {} should",
            tail.next
        ))),
    }
}

impl Tail {
    async fn read(&mut self, url: &str, from: Offset, out: &mut (dyn Write + Send)) -> Result<End, AppError> {
        let mut reader = StreamReader::open(url, NAME, from).await?;
        while self.left > 0 {
            let Some(batch) = reader.next(self.idle.unwrap_or(WAIT)).await? else {
                if self.idle.is_some() {
                    break;
                }
                continue;
            };
            for (event, text) in batch.events()?.iter().zip(batch.texts()?) {
                let index = event.index()?;
                match index.cmp(&self.next) {
                    _ if self.left == 0 => break,
                    Ordering::Less => continue,
                    Ordering::Equal => {}
                    Ordering::Greater => return Ok(End::Gap(index)),
                }
                match writeln!(out, "{}", text.get()) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Done),
                    written => written?,
                }
                (self.next, self.left) = (index + 1, self.left - 1);
            }
            out.flush()?;
        }
        Ok(End::Done)
    }
}
