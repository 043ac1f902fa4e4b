//! Sweeps: look for what is overdue and send a command to whoever owns the transition.

use std::time::Duration;

use async_trait::async_trait;
use countersign_broker::{
    BrokerError, crash,
    publisher::{Outgoing, Publisher},
    topology::commands_queue,
};
use countersign_store::{Store, StoreError, Transaction, sweeps::SWEEP_MAX};

use crate::process::Process;

/// A role's sweep. It changes nothing but its own notes, and the messages carry no authority.
#[async_trait]
pub trait Sweeper: Send {
    /// The interval between two sweeps of a process; `usual` is that of the settings.
    fn every(&self, usual: Duration) -> Duration {
        usual
    }

    /// The queue in which people answer the requests that this sweep repeats.
    fn answers(&self) -> Option<&str> {
        None
    }

    /// The queue whose messages this sweep sends again when they seem to be lost.
    fn input(&self) -> Option<&str> {
        None
    }

    /// The messages that are due now.
    async fn due(&mut self, tx: &Transaction, load: Load) -> Result<Vec<Outgoing>, StoreError>;
}

/// How busy a sweep's queues are.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests are repeated after this many times the usual interval.
    pub backoff_factor: f64,
    /// Whether [`Sweeper::input`] is empty. While it is not, a message that seems to be lost may be waiting there.
    pub caught_up: bool,
}

/// Requests are repeated at the usual interval while no more answers than these are queued: about a batch.
const ANSWERS_MAX: u32 = 256;

/// The factor while more are queued: every repeated request may bring one more answer.
const BACKOFF: f64 = 10.0;

#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Sweeps until the process stops. A failed sweep is repeated by the next one.
pub async fn run<S: Sweeper>(process: Process, mut sweeper: S) {
    let name = format!("countersign-{}:sweep", process.role);
    let mut publisher = None;
    loop {
        // Jitter, so that the sweeps of several processes do not stay in step.
        let every = sweeper.every(process.settings.sweep.every);
        let pause = every.mul_f64(rand::random_range(0.5..1.5)).max(Duration::from_millis(50));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = process.stop.cancelled() => return,
        }
        if let Err(error) = once(&process, &name, &mut sweeper, &mut publisher).await {
            tracing::warn!(sweep = name, %error, "sweep failed");
            publisher = None;
        }
    }
}

async fn once<S: Sweeper>(
    process: &Process,
    name: &str,
    sweeper: &mut S,
    publisher: &mut Option<Publisher>,
) -> Result<(), SweepError> {
    let publisher = match publisher {
        Some(publisher) => publisher,
        None => publisher.insert(Publisher::connect(&process.amqp_url, name).await?),
    };
    let waiting = publisher.depth(&commands_queue(process.role)).await?;
    if i64::from(waiting) >= SWEEP_MAX {
        // It would only find what those commands are already about.
        tracing::warn!(sweep = name, waiting, "sweep skipped: earlier commands are still queued");
        return Ok(());
    }
    let load = load(process, name, sweeper, publisher).await?;
    let limit = process.settings.limits.transaction;
    let due = process.store.within(limit, due(&process.store, sweeper, load)).await?;
    if due.is_empty() {
        return Ok(());
    }
    tracing::debug!(sweep = name, commands = due.len(), "sweep found work");
    crash::point("sweep", "found");
    publisher.publish(&due).await?;
    crash::point("sweep", "confirmed");
    Ok(())
}

/// Asks the broker about the sweep's queues. A queue that cannot be queried counts as full, and the rest of the sweep
/// goes on.
async fn load<S: Sweeper>(
    process: &Process,
    name: &str,
    sweeper: &S,
    publisher: &mut Publisher,
) -> Result<Load, BrokerError> {
    let mut load = Load { backoff_factor: 1.0, caught_up: true };
    for (queue, max) in [(sweeper.answers(), ANSWERS_MAX), (sweeper.input(), 0)] {
        let Some(queue) = queue else { continue };
        let busy = match publisher.depth(queue).await {
            Ok(waiting) => waiting > max,
            Err(error) => {
                tracing::warn!(sweep = name, queue, %error, "the length of a queue is unknown");
                *publisher = Publisher::connect(&process.amqp_url, name).await?;
                true
            }
        };
        match max {
            0 => load.caught_up = !busy,
            _ if busy => load.backoff_factor = BACKOFF,
            _ => {}
        }
    }
    Ok(load)
}

async fn due<S: Sweeper>(store: &Store, sweeper: &mut S, load: Load) -> Result<Vec<Outgoing>, StoreError> {
    let tx = store.transaction().await?;
    let due = sweeper.due(&tx, load).await?;
    tx.commit().await?;
    Ok(due)
}
