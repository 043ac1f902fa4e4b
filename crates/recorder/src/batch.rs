//! Batches: a draft's entries, in one transaction into the ledger, under a signed checkpoint.

use std::{panic::resume_unwind, time::Duration};

use countersign_broker::crash;
use countersign_ledger::{
    note::Checkpoint,
    tree::{Node, TreeFrontier},
};
use countersign_store::{
    StoreError,
    ledger::{self, Head, Signed, read},
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

use crate::{
    draft::{Draft, Drafts},
    entry_cache::EntryCache,
    error::RecorderError,
    shared::Recorder,
};

/// The appending side of a recorder.
pub(crate) struct Batches<'r> {
    recorder: &'r Recorder,
    fence: i64,
    frontier: TreeFrontier,
    /// The newest entries.
    cache: EntryCache,
    /// Publishes the ledger's size to folder and stream.
    sizes: watch::Sender<u64>,
}

impl<'r> Batches<'r> {
    /// Reads the tree's frontier.
    pub(crate) async fn start(
        recorder: &'r Recorder,
        head: Head,
        cache: EntryCache,
        sizes: watch::Sender<u64>,
    ) -> Result<Self, RecorderError> {
        let frontier = recorder.reading(async |tx| read::frontier(tx, head.size).await).await?;
        Ok(Self { recorder, fence: head.fence, frontier, cache, sizes })
    }

    /// Appends batch after batch until one fails: then its result is unknown, and everything is read again.
    pub(crate) async fn run(&mut self) -> Result<(), RecorderError> {
        let (every, lease) = {
            let settings = &self.recorder.process.settings.ledger;
            (settings.every, settings.lease)
        };
        // A set aborts its tasks when it is dropped.
        let mut drafting = JoinSet::new();
        drafting.spawn(Drafts::new(self.recorder.clone()).next(vec![], Duration::ZERO));
        loop {
            let (drafts, draft) = tokio::select! {
                Some(drafted) = drafting.join_next() => joined(drafted)?,
                // Renews the lease, however long a draft takes.
                () = tokio::time::sleep(lease / 3) => {
                    self.append(Draft::default()).await?;
                    continue;
                }
            };
            let pause = if draft.more { Duration::ZERO } else { every };
            drafting.spawn(drafts.next(draft.notes.clone(), pause));
            self.append(draft).await?;
        }
    }

    async fn append(&mut self, draft: Draft) -> Result<(), RecorderError> {
        let limit = self.recorder.process.settings.limits.transaction;
        let timed_out = |_| StoreError::Unavailable(format!("a batch took longer than {limit:?}"));
        tokio::time::timeout(limit, self.batch(draft)).await.map_err(timed_out)??;
        self.sizes.send_replace(self.frontier.size());
        Ok(())
    }

    /// One batch. Also renews the lease when there is nothing to record.
    async fn batch(&mut self, draft: Draft) -> Result<(), RecorderError> {
        let settings = &self.recorder.process.settings;
        let tx = self.recorder.process.store.transaction().await?;
        let head = ledger::renew(&tx, self.fence, settings.ledger.lease.as_secs_f64()).await?;
        let head = head.ok_or(RecorderError::Lost)?;
        if head.size != self.frontier.size() {
            return Err(RecorderError::Forked(format!(
                "the ledger has {} entries, and this recorder left it with {}",
                head.size,
                self.frontier.size()
            )));
        }
        if draft.entries.is_empty() {
            return Ok(tx.commit().await?);
        }
        ledger::delete_notes(&tx, &draft.notes).await?;
        // A copy: the tree has these leaves only when they are committed.
        let mut frontier = self.frontier.clone();
        let nodes: Vec<Node> = draft.entries.iter().flat_map(|entry| frontier.push(entry.leaf)).collect();
        let checkpoint = self.sign(&draft, &frontier)?;
        ledger::append(&tx, head.size, &draft.entries).await?;
        ledger::add_nodes(&tx, &nodes).await?;
        ledger::advance(&tx, self.fence, head.size, &checkpoint).await?;
        crash::point("ledger", "written");
        tx.commit().await?;
        crash::point("ledger", "committed");
        self.frontier = frontier;
        self.cache.push(head.size, draft.entries.into_iter().map(|entry| entry.entry));
        Ok(())
    }

    fn sign(&self, draft: &Draft, frontier: &TreeFrontier) -> Result<Signed, RecorderError> {
        let origin = self.recorder.process.settings.ledger.origin.clone();
        let checkpoint = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
        let note = checkpoint.sign(&self.recorder.keys.ledger)?;
        Ok(Signed { size: checkpoint.size, root: checkpoint.root, note, signed_at: draft.at })
    }
}

/// A task's result. Its panic is resumed here.
pub(crate) fn joined<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}
