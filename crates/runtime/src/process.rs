//! One process of a role: its lanes and its sweep, from start to a drained stop.

use std::{future::Future, sync::Arc, time::Duration};

use countersign_broker::lane::{self, LaneSettings, Queues};
use countersign_store::{Store, StoreError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use crate::quarantine::{entry, keep};
use crate::{
    batch_handler::{Adapter, BatchHandler},
    governed::GovernedCache,
    settings::{Lanes, Settings},
};

/// What the parts of a process share.
#[derive(Clone)]
pub struct Process {
    /// `router`, `executor`, `sampler`, `recorder`.
    pub role: &'static str,
    /// The broker, as the role's own user.
    pub amqp_url: String,
    /// The database, as the role's own user.
    pub store: Store,
    /// `countersign.toml`.
    pub settings: Arc<Settings>,
    /// The configuration in force.
    pub governed: Arc<GovernedCache>,
    /// Cancelled when the process is to stop.
    pub stop: CancellationToken,
}

impl Process {
    /// Connects nothing yet: the lanes connect, and wait for the broker and the database as long as necessary.
    pub fn new(
        role: &'static str,
        amqp_url: &str,
        database_url: &str,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        // Every lane and sweep at once, and a few to spare.
        let connections = usize::from(settings.lanes.per_process) * 2 + 6;
        Ok(Self {
            role,
            amqp_url: amqp_url.into(),
            store: Store::of_worker(database_url, &format!("countersign-{role}"), connections)?,
            settings: Arc::new(settings),
            governed: Arc::default(),
            stop,
        })
    }

    /// Starts a lane on `queue` with the settings' batches.
    pub fn lane<H: BatchHandler + 'static>(
        &self,
        tasks: &mut JoinSet<()>,
        queue: &str,
        index: u16,
        handler: H,
    ) {
        self.lane_of(tasks, Input::queue(queue), index, self.batches(), handler);
    }

    /// The settings' batches.
    pub fn batches(&self) -> Batches {
        let Lanes { batch_max, linger, .. } = self.settings.lanes;
        Batches { batch_max, linger }
    }

    /// Starts a lane on `input` with batches of its own.
    pub fn lane_of<H: BatchHandler + 'static>(
        &self,
        tasks: &mut JoinSet<()>,
        input: Input,
        index: u16,
        batches: Batches,
        handler: H,
    ) {
        let name = format!("countersign-{}:{}#{index}", self.role, input.name);
        let settings = LaneSettings {
            url: self.amqp_url.clone(),
            queues: input.queues,
            input: input.name,
            batch_max: batches.batch_max,
            linger: batches.linger,
            handle_limit: self.settings.limits.transaction,
        };
        let handler = Adapter { store: self.store.clone(), handler };
        tasks.spawn(lane::run(name.into(), settings, handler, self.stop.clone()));
    }
}

/// What a lane takes.
pub struct Input {
    name: String,
    queues: Queues,
}

impl Input {
    /// One queue.
    pub fn queue(name: &str) -> Self {
        Self::of(name, &LaneSettings::one(name))
    }

    /// Several queues, which together have a name.
    pub fn of(name: &str, queues: &Queues) -> Self {
        Self { name: name.into(), queues: queues.clone() }
    }
}

/// How large a lane's batches are.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    /// The most deliveries in one.
    pub batch_max: u16,
    /// How long the lane waits for further deliveries after the first.
    pub linger: Duration,
}

/// Waits for every task of a process. A task that panics takes the process with it: the supervisor outside
/// starts a new one, and unacked messages come back.
pub async fn drain(mut tasks: JoinSet<()>, stop: CancellationToken) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task panicked; the process stops");
            stop.cancel();
        }
    }
}

/// Runs `process` until it ends, or until SIGINT or SIGTERM; then lets it drain.
pub async fn until_signalled<T>(stop: CancellationToken, process: impl Future<Output = T>) -> T {
    let signalled = async {
        let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => {
                tracing::warn!(%error, "no handler for SIGTERM could be installed");
                let _ = tokio::signal::ctrl_c().await;
                return;
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(process);
    tokio::select! {
        ended = &mut process => return ended,
        () = signalled => tracing::info!("stopping"),
    }
    stop.cancel();
    process.await
}
