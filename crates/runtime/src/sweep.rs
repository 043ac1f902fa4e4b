//! Sweeps: look for what is overdue and tell whoever owns the transition.

use std::time::Duration;

use async_trait::async_trait;
use countersign_broker::{
    BrokerError, crash,
    publisher::{Outgoing, Publisher},
    topology::commands_queue,
};
use countersign_store::{Store, StoreError, Transaction, sweeps::SWEEP_MAX};

use crate::process::Process;

/// What a role looks for. It changes nothing but notes of its own; the messages carry no authority.
#[async_trait]
pub trait Sweeper: Send {
    /// The queue in which people answer what they are asked here.
    fn answers(&self) -> Option<&'static str> {
        None
    }

    /// The commands that are due now. People are asked again after `backoff_factor` times as long as usual.
    async fn due(&mut self, tx: &Transaction, backoff_factor: f64) -> Result<Vec<Outgoing>, StoreError>;
}

/// So many answers may wait while people are asked again as usual: about a batch.
const UNHEARD: u32 = 256;

/// The backoff_factor while more wait: whoever is asked again answers again, and that would have to be heard as well.
const PATIENT: f64 = 10.0;

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
        let pause =
            process.settings.sweep.every.mul_f64(rand::random_range(0.5..1.5)).max(Duration::from_millis(50));
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
        // More of the same would only pile up: what waits is what was found before.
        tracing::warn!(sweep = name, waiting, "commands wait to be done; nothing is looked for");
        return Ok(());
    }
    let mut backoff_factor = 1.0;
    if let Some(queue) = sweeper.answers() {
        match publisher.depth(queue).await {
            Ok(waiting) if waiting <= UNHEARD => {}
            Ok(_) => backoff_factor = PATIENT,
            // What can be done without this queue is done.
            Err(error) => {
                tracing::warn!(sweep = name, %error, "how much waits to be heard is unknown");
                (backoff_factor, *publisher) = (PATIENT, Publisher::connect(&process.amqp_url, name).await?);
            }
        }
    }
    let limit = process.settings.limits.transaction;
    let due = process.store.within(limit, due(&process.store, sweeper, backoff_factor)).await?;
    if due.is_empty() {
        return Ok(());
    }
    tracing::debug!(sweep = name, commands = due.len(), "sweep found work");
    crash::point("sweep", "found");
    publisher.publish(&due).await?;
    crash::point("sweep", "confirmed");
    Ok(())
}

async fn due<S: Sweeper>(
    store: &Store,
    sweeper: &mut S,
    backoff_factor: f64,
) -> Result<Vec<Outgoing>, StoreError> {
    let tx = store.transaction().await?;
    let due = sweeper.due(&tx, backoff_factor).await?;
    tx.commit().await?;
    Ok(due)
}
