//! The audit stream: entries in order, from the actual end of the stream.

use countersign_broker::{crash, stream::Feed};
use countersign_ledger::event::cloud_event;
use countersign_store::ledger::read;
use tokio::sync::watch;

use crate::{entry_cache::EntryCache, error::RecorderError, shared::Recorder};

/// The most entries that are read at once.
const PAGE: usize = 1_024;

/// The most entries in one message.
const BATCH: usize = 256;

/// The most bytes in one message, unless a single entry is larger.
const BATCH_BYTES: usize = 1 << 20;

/// Feeds the stream as the ledger grows. Waits for an unavailable broker, while the ledger goes on.
///
/// Each connection begins by reading where the stream ends, and each message is confirmed before the next is sent, so there
/// are no gaps. Two recorders that feed at the same time, one of them without a lease, repeat each other and skip nothing.
pub(crate) async fn follow(
    recorder: Recorder,
    cache: EntryCache,
    known: watch::Receiver<u64>,
) -> RecorderError {
    loop {
        match feed(&recorder, &cache, known.clone()).await {
            forked @ RecorderError::Forked(_) => return forked,
            RecorderError::Lost => return RecorderError::Lost,
            error => tracing::warn!(%error, "the audit stream cannot be fed; retrying"),
        }
        recorder.pause().await;
    }
}

async fn feed(recorder: &Recorder, cache: &EntryCache, mut known: watch::Receiver<u64>) -> RecorderError {
    let connected = async {
        let feed = Feed::connect(&recorder.process.amqp_url, "countersign-recorder:stream").await?;
        let next = resume(recorder, &feed).await?;
        Ok((feed, next))
    };
    let (feed, mut next) = match connected.await {
        Ok(connected) => connected,
        Err(error) => return error,
    };
    tracing::info!(next, "feeding the audit stream");
    loop {
        let size = *known.borrow_and_update();
        while next < size {
            match page(recorder, cache, &feed, next).await {
                Ok(after) => next = after,
                Err(error) => return error,
            }
        }
        if known.changed().await.is_err() {
            return RecorderError::Lost;
        }
    }
}

/// The index of the first entry that the stream lacks.
async fn resume(recorder: &Recorder, feed: &Feed) -> Result<u64, RecorderError> {
    let Some((index, entry)) = feed.last().await? else { return Ok(0) };
    let stored = recorder.reading(async |tx| read::entries(tx, index, 1).await).await?;
    match stored.first() {
        Some(stored) if stored.index == index && stored.entry == entry => Ok(index + 1),
        _ => Err(RecorderError::Forked(format!(
            "the audit stream ends with an entry {index} that the ledger does not have"
        ))),
    }
}

/// Publishes a page of entries from `from` on. Returns the index of the one after.
async fn page(recorder: &Recorder, cache: &EntryCache, feed: &Feed, from: u64) -> Result<u64, RecorderError> {
    let mut entries = cache.get(from, PAGE);
    if entries.is_empty() {
        entries = recorder.entries(from, PAGE).await?;
    }
    let (mut next, mut events, mut bytes) = (from, Vec::new(), 0);
    for entry in entries {
        let event = cloud_event(next, &entry)?;
        if !events.is_empty() && (events.len() == BATCH || bytes + event.len() > BATCH_BYTES) {
            feed.publish(&events).await?;
            (events, bytes) = (Vec::new(), 0);
        }
        bytes += event.len();
        events.push(event);
        next += 1;
    }
    if !events.is_empty() {
        feed.publish(&events).await?;
        crash::point("stream", "confirmed");
    }
    if next == from {
        Err(RecorderError::Forked(format!("the ledger has no entry {from}")))
    } else {
        Ok(next)
    }
}
