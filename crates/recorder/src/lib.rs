//! The recorder: moves evidence into the ledger, signs checkpoints, writes tiles and feeds the audit stream.
//!
//! **One recorder is active.** It holds a lease on one row; each batch renews it under its fence, in the transaction
//! that appends, so that of two recorders that both believe to be active, only one can commit. **Writers never wait for
//! it.** Folder and stream follow the ledger, each at its own pace: neither a full disk nor a broker that is away stops
//! the recording.

mod batch;
mod draft;
mod entry_cache;
mod error;
mod feed;
mod folder;
mod governing;
mod shared;

use std::{sync::Arc, time::Duration};

use countersign_runtime::process::Process;
use countersign_store::ledger::{self, Head};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use self::{batch::joined, entry_cache::EntryCache, shared::Recorder};
pub use self::{error::RecorderError, shared::Keys};

/// How often a standby recorder checks whether the lease is free.
const LEASE_POLL: Duration = Duration::from_millis(500);

/// Runs a recorder until its process is stopped.
///
/// # Errors
/// [`RecorderError::Forked`]: retrying resolves everything else, but not two histories.
pub async fn run(process: Process, keys: Keys) -> Result<(), RecorderError> {
    let holder = Uuid::now_v7().to_string().into();
    let recorder = Recorder { process, keys: Arc::new(keys), holder };
    while !recorder.process.stop.is_cancelled() {
        let Err(error) = lead(&recorder).await else { break };
        match error {
            // A takeover is not a failure.
            RecorderError::Lost => tracing::info!(%error, "standing by"),
            forked @ RecorderError::Forked(_) => return Err(forked),
            _ => tracing::warn!(%error, "the recorder restarts"),
        }
        recorder.pause().await;
    }
    Ok(())
}

/// Takes the lease, checks that the folder holds no other history, then records until something fails. `Ok` means that the
/// recorder was asked to stop.
async fn lead(recorder: &Recorder) -> Result<(), RecorderError> {
    let stop = &recorder.process.stop;
    let head = tokio::select! {
        head = lease(recorder) => head?,
        () = stop.cancelled() => return Ok(()),
    };
    tracing::info!(fence = head.fence, size = head.size, "recording");
    let result = record(recorder, head).await;
    // A standby recorder need not wait for the lease to run out. A lease that is lost already is not released.
    let released = release(recorder, head.fence).await;
    result.and(released)
}

async fn record(recorder: &Recorder, head: Head) -> Result<(), RecorderError> {
    let cache = EntryCache::default();
    let folder = folder::Folder::open(recorder, cache.clone()).await?;
    let (sizes, known) = watch::channel(head.size);
    let mut batches = batch::Batches::start(recorder, head, cache.clone(), sizes).await?;
    // Separate tasks, so that none of them holds up another.
    let mut followers = JoinSet::new();
    followers.spawn(folder.follow(known.clone()));
    followers.spawn(feed::follow(recorder.clone(), cache, known));
    let result = tokio::select! {
        ended = batches.run() => ended,
        Some(ended) = followers.join_next() => Err(joined(ended)),
        () = recorder.process.stop.cancelled() => Ok(()),
    };
    // The followers must have stopped before the next attempt.
    followers.shutdown().await;
    result
}

/// Waits until nobody else holds the lease.
async fn lease(recorder: &Recorder) -> Result<Head, RecorderError> {
    let settings = &recorder.process.settings;
    let seconds = settings.ledger.lease.as_secs_f64();
    loop {
        let claim = async {
            let tx = recorder.process.store.transaction().await?;
            let head = ledger::claim(&tx, &recorder.holder, seconds).await?;
            tx.commit().await?;
            Ok(head)
        };
        if let Some(head) = recorder.process.store.within(settings.limits.transaction, claim).await? {
            return Ok(head);
        }
        tokio::time::sleep(LEASE_POLL.mul_f64(rand::random_range(0.8..1.2))).await;
    }
}

async fn release(recorder: &Recorder, fence: i64) -> Result<(), RecorderError> {
    let release = async {
        let tx = recorder.process.store.transaction().await?;
        ledger::release(&tx, fence).await?;
        tx.commit().await
    };
    Ok(recorder.process.store.within(recorder.process.settings.ledger.lease, release).await?)
}
