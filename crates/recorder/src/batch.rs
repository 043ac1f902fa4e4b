//! Batches: evidence that has become visible, in one transaction into the ledger, under a signed checkpoint.

use std::collections::HashSet;

use countersign_broker::crash;
use countersign_core::{
    ids::ActionId,
    ledger::{
        entry::{self, Context, Row},
        note::Checkpoint,
        tree::{Node, Tail, leaf_hash},
    },
};
use countersign_store::{
    StoreError, Transaction,
    ledger::{self, Head, NewEntry, Pending, Signed, Subject, read},
};
use lru::LruCache;
use tokio::sync::watch;

use crate::{Recorder, error::RecorderError, governing::Governed, recent::Recent};

/// Most actions that are remembered between batches: an action's entries come soon after each other, or long after.
const KNOWN: usize = 32_768;

fn unknown(row: &Pending, action: ActionId) -> StoreError {
    StoreError::Corrupt(format!("evidence {}: there is no action {action}", row.evidence))
}

/// The appending side of a recorder's life.
pub(crate) struct Batches<'r> {
    recorder: &'r Recorder,
    fence: i64,
    tail: Tail,
    governed: Governed,
    /// The actions of late.
    subjects: LruCache<ActionId, Subject>,
    /// The entries of late.
    recent: Recent,
    /// Tells the others how far the ledger has come.
    sizes: watch::Sender<u64>,
}

impl<'r> Batches<'r> {
    /// Reads the tree's right edge.
    pub(crate) async fn start(
        recorder: &'r Recorder,
        head: Head,
        recent: Recent,
        sizes: watch::Sender<u64>,
    ) -> Result<Self, RecorderError> {
        let tail = recorder.reading(async |tx| read::tail(tx, head.size).await).await?;
        let (fence, governed, subjects) = (head.fence, Governed::default(), LruCache::unbounded());
        Ok(Self { recorder, fence, tail, governed, subjects, recent, sizes })
    }

    /// Appends batch after batch, until one fails: then nothing of it is known, and everything is read again.
    pub(crate) async fn run(&mut self) -> RecorderError {
        let settings = self.recorder.process.settings.clone();
        loop {
            let limit = settings.limits.transaction;
            let more = match tokio::time::timeout(limit, self.batch()).await {
                Ok(Ok(more)) => more,
                Ok(Err(error)) => return error,
                Err(_) => {
                    return StoreError::Unavailable(format!("a batch took longer than {limit:?}")).into();
                }
            };
            self.sizes.send_replace(self.tail.size());
            if !more {
                tokio::time::sleep(settings.ledger.every).await;
            }
        }
    }

    /// One batch. Renews the lease also where there is nothing to record. Whether more waits.
    async fn batch(&mut self) -> Result<bool, RecorderError> {
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
        let (rows, more) = ledger::take(&tx, settings.ledger.batch_max.into()).await?;
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
            self.recent.push(head.size, entries.into_iter().map(|entry| entry.entry));
        } else {
            tx.commit().await.map_err(StoreError::from)?;
        }
        Ok(more)
    }

    async fn entries(
        &mut self,
        tx: &Transaction<'_>,
        head: &Head,
        rows: &[Pending],
    ) -> Result<Vec<NewEntry>, RecorderError> {
        self.look_up(tx, rows).await?;
        let settings = &self.recorder.process.settings.ledger;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let mut subject = match row.action {
                Some(action) => Some(self.subjects.get_mut(&action).ok_or_else(|| unknown(row, action))?),
                None => None,
            };
            let facts = subject.as_ref().map(|subject| &subject.facts);
            let governing = self.governed.of(tx, row, facts).await?;
            let written =
                Row { event: row.event, kind: &row.kind, body: &row.body, occurred_at: row.occurred_at };
            let context = Context {
                recorded_at: head.now,
                system: &settings.system,
                purpose: &settings.purpose,
                action: facts,
                governing: governing.as_ref(),
                previous: subject.as_ref().and_then(|subject| subject.last),
            };
            let entry = entry::entry(&written, &context)?;
            if let Some(subject) = &mut subject {
                subject.last = Some(row.event);
            }
            let (leaf, kind) = (leaf_hash(&entry), row.kind.clone());
            let (evidence, event, action) = (row.evidence, row.event, row.action);
            entries.push(NewEntry { evidence, event, action, kind, entry, leaf });
        }
        while self.subjects.len() > KNOWN {
            self.subjects.pop_lru();
        }
        Ok(entries)
    }

    /// Reads the actions of these rows, where they are not known yet. What is known stays true: nobody else appends, and
    /// after a failure everything is forgotten.
    async fn look_up(&mut self, tx: &Transaction<'_>, rows: &[Pending]) -> Result<(), StoreError> {
        let actions: HashSet<ActionId> = rows.iter().filter_map(|row| row.action).collect();
        let (known, new): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| self.subjects.contains(action));
        // Those of this batch are the last to be forgotten.
        for action in &known {
            self.subjects.promote(action);
        }
        for (action, subject) in ledger::subjects(tx, &new).await? {
            self.subjects.put(action, subject);
        }
        Ok(())
    }

    fn sign(&self, head: &Head, tail: &Tail) -> Result<Signed, RecorderError> {
        let origin = self.recorder.process.settings.ledger.origin.clone();
        let checkpoint = Checkpoint { origin, size: tail.size(), root: tail.root() };
        let note = checkpoint.sign(&self.recorder.keys.ledger)?;
        Ok(Signed { size: checkpoint.size, root: checkpoint.root, note, signed_at: head.now })
    }
}
