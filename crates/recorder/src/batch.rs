//! Batches: evidence that has become visible, in one transaction into the ledger, under a signed checkpoint.

use std::collections::HashMap;

use countersign_broker::crash;
use countersign_core::ledger::{
    entry::{self, Context, Row},
    note::Checkpoint,
    tree::{Node, Tail, leaf_hash},
};
use countersign_store::{
    StoreError, Transaction,
    ledger::{self, Head, NewEntry, Pending, Signed, read},
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{Recorder, error::RecorderError, governing::Governed};

/// The appending side of a recorder's life.
pub(crate) struct Batches<'r> {
    recorder: &'r Recorder,
    fence: i64,
    tail: Tail,
    governed: Governed,
    /// Tells the others how far the ledger has come.
    sizes: watch::Sender<u64>,
}

impl<'r> Batches<'r> {
    /// Reads the tree's right edge.
    pub(crate) async fn start(
        recorder: &'r Recorder,
        head: Head,
        sizes: watch::Sender<u64>,
    ) -> Result<Self, RecorderError> {
        let tail = recorder.reading(async |tx| read::tail(tx, head.size).await).await?;
        Ok(Self { recorder, fence: head.fence, tail, governed: Governed::default(), sizes })
    }

    /// Appends batch after batch, until one fails: then nothing of it is known, and everything is read again.
    pub(crate) async fn run(&mut self) -> RecorderError {
        let settings = self.recorder.process.settings.clone();
        let full = usize::from(settings.ledger.batch_max);
        loop {
            let limit = settings.limits.transaction;
            let taken = match tokio::time::timeout(limit, self.batch()).await {
                Ok(Ok(taken)) => taken,
                Ok(Err(error)) => return error,
                Err(_) => {
                    return StoreError::Unavailable(format!("a batch took longer than {limit:?}")).into();
                }
            };
            self.sizes.send_replace(self.tail.size());
            if taken < full {
                tokio::time::sleep(settings.ledger.every).await;
            }
        }
    }

    /// One batch. Renews the lease also where there is nothing to record.
    async fn batch(&mut self) -> Result<usize, RecorderError> {
        let settings = self.recorder.process.settings.clone();
        let mut client = self.recorder.process.store.client().await?;
        let tx = client.transaction().await.map_err(StoreError::from)?;
        let head = ledger::renew(&tx, self.fence, settings.ledger.lease.as_secs_f64()).await?;
        let head = head.ok_or(RecorderError::Lost)?;
        if head.size != self.tail.size() {
            return Err(RecorderError::Forked(format!(
                "the ledger has {} entries, and this recorder left it with {}",
                head.size,
                self.tail.size()
            )));
        }
        let rows = ledger::take(&tx, settings.ledger.batch_max.into()).await?;
        if !rows.is_empty() {
            let entries = self.entries(&tx, &head, &rows).await?;
            // Only when it is committed does the tree have these leaves.
            let mut tail = self.tail.clone();
            let nodes: Vec<Node> = entries.iter().flat_map(|entry| tail.push(entry.leaf)).collect();
            let checkpoint = self.sign(&head, &tail)?;
            ledger::append(&tx, head.size, &entries).await?;
            ledger::add_nodes(&tx, &nodes).await?;
            ledger::advance(&tx, self.fence, head.size, &checkpoint).await?;
            crash::point("ledger", "written");
            tx.commit().await.map_err(StoreError::from)?;
            crash::point("ledger", "committed");
            self.tail = tail;
        } else {
            tx.commit().await.map_err(StoreError::from)?;
        }
        Ok(rows.len())
    }

    async fn entries(
        &mut self,
        tx: &Transaction<'_>,
        head: &Head,
        rows: &[Pending],
    ) -> Result<Vec<NewEntry>, RecorderError> {
        let settings = &self.recorder.process.settings.ledger;
        let mut last: HashMap<Uuid, Uuid> = HashMap::new();
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let governing = self.governed.of(tx, row).await?;
            let action = row.action.as_ref().map(|facts| facts.id);
            let before = action.and_then(|action| last.insert(action.0, row.event));
            let written =
                Row { event: row.event, kind: &row.kind, body: &row.body, occurred_at: row.occurred_at };
            let context = Context {
                recorded_at: head.now,
                system: &settings.system,
                purpose: &settings.purpose,
                action: row.action.as_ref(),
                governing: governing.as_ref(),
                previous: before.or(row.previous),
            };
            let entry = entry::entry(&written, &context)?;
            let leaf = leaf_hash(&entry);
            let kind = row.kind.clone();
            entries.push(NewEntry { evidence: row.evidence, event: row.event, action, kind, entry, leaf });
        }
        Ok(entries)
    }

    fn sign(&self, head: &Head, tail: &Tail) -> Result<Signed, RecorderError> {
        let origin = self.recorder.process.settings.ledger.origin.clone();
        let checkpoint = Checkpoint { origin, size: tail.size(), root: tail.root() };
        let note = checkpoint.sign(&self.recorder.keys.ledger)?;
        Ok(Signed { size: checkpoint.size, root: checkpoint.root, note, signed_at: head.now })
    }
}
