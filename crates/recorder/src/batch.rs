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
    tail: TreeFrontier,
    /// The newest entries.
    cache: EntryCache,
    /// Publishes the ledger's size to folder and stream.
    sizes: watch::Sender<u64>,
}

impl<'r> Batches<'r> {
    /// Reads the tree's right edge.
    pub(crate) async fn start(
        recorder: &'r Recorder,
        head: Head,
        cache: EntryCache,
        sizes: watch::Sender<u64>,
    ) -> Result<Self, RecorderError> {
        let tail = recorder.reading(async |tx| read::tail(tx, head.size).await).await?;
        Ok(Self { recorder, fence: head.fence, tail, cache, sizes })
    }

    /// Appends batch after batch until one fails: then its result is unknown, and everything is read again.
    pub(crate) async fn run(&mut self) -> Result<(), RecorderError> {
        let (every, lease) = {
            let settings = &self.recorder.process.settings.ledger;
            (settings.every, settings.lease)
        };
        // A set, because its tasks end with it.
        let mut ahead = JoinSet::new();
        ahead.spawn(Drafts::new(self.recorder.clone()).next(vec![], Duration::ZERO));
        loop {
            let (drafts, draft) = tokio::select! {
                Some(drafted) = ahead.join_next() => joined(drafted)?,
                // However long a draft takes.
                () = tokio::time::sleep(lease / 3) => {
                    self.append(Draft::default()).await?;
                    continue;
                }
            };
            let pause = if draft.more { Duration::ZERO } else { every };
            ahead.spawn(drafts.next(draft.notes.clone(), pause));
            self.append(draft).await?;
        }
    }

    async fn append(&mut self, draft: Draft) -> Result<(), RecorderError> {
        let limit = self.recorder.process.settings.limits.transaction;
        let late = |_| StoreError::Unavailable(format!("a batch took longer than {limit:?}"));
        tokio::time::timeout(limit, self.batch(draft)).await.map_err(late)??;
        self.sizes.send_replace(self.tail.size());
        Ok(())
    }

    /// One batch. Renews the lease also where there is nothing to record.
    async fn batch(&mut self, draft: Draft) -> Result<(), RecorderError> {
        let settings = &self.recorder.process.settings;
        let tx = self.recorder.process.store.transaction().await?;
        let head = ledger::renew(&tx, self.fence, settings.ledger.lease.as_secs_f64()).await?;
        let head = head.ok_or(RecorderError::Lost)?;
        if head.size != self.tail.size() {
            return Err(RecorderError::Forked(format!(
                "the ledger has {} entries, and this recorder left it with {}",
                head.size,
                self.tail.size()
            )));
        }
        if draft.entries.is_empty() {
            return Ok(tx.commit().await?);
        }
        ledger::take(&tx, &draft.notes).await?;
        // Only when it is committed does the tree have these leaves.
        let mut tail = self.tail.clone();
        let nodes: Vec<Node> = draft.entries.iter().flat_map(|entry| tail.push(entry.leaf)).collect();
        let checkpoint = self.sign(&draft, &tail)?;
        ledger::append(&tx, head.size, &draft.entries).await?;
        ledger::add_nodes(&tx, &nodes).await?;
        ledger::advance(&tx, self.fence, head.size, &checkpoint).await?;
        crash::point("ledger", "written");
        tx.commit().await?;
        crash::point("ledger", "committed");
        self.tail = tail;
        self.cache.push(head.size, draft.entries.into_iter().map(|entry| entry.entry));
        Ok(())
    }

    fn sign(&self, draft: &Draft, tail: &TreeFrontier) -> Result<Signed, RecorderError> {
        let origin = self.recorder.process.settings.ledger.origin.clone();
        let checkpoint = Checkpoint { origin, size: tail.size(), root: tail.root() };
        let note = checkpoint.sign(&self.recorder.keys.ledger)?;
        Ok(Signed { size: checkpoint.size, root: checkpoint.root, note, signed_at: draft.at })
    }
}

/// What a task ended with. Its panic is ours.
pub(crate) fn joined<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}
