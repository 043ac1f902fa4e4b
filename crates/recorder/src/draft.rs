//! Drafts: the entries that committed evidence will become.
//!
//! The next batch is drafted while the one before it is appended. Drafting only reads: a draft that is not appended has
//! no effect.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use countersign_core::ids::ActionId;
use countersign_ledger::{
    entry::{self, Context, Row},
    tree::leaf_hash,
};
use countersign_store::{
    StoreError, Transaction,
    ledger::{self, NewEntry, Pending, Subject},
};
use lru::LruCache;

use crate::{error::RecorderError, governing::Governed, shared::Recorder};

/// The most actions cached between drafts: an action's entries come soon after each other, or much later. More than one
/// batch can be about, because the batch being appended is not in the database yet.
const CACHED_MAX: usize = 8_192;

fn unknown(row: &Pending, action: ActionId) -> StoreError {
    StoreError::Corrupt(format!("evidence {}: there is no action {action}", row.evidence))
}

/// A batch that is to be appended.
#[derive(Default)]
pub(crate) struct Draft {
    /// The notes that name its evidence.
    pub(crate) notes: Vec<i64>,
    pub(crate) entries: Vec<NewEntry>,
    /// The database's clock: when its entries were recorded.
    pub(crate) at: DateTime<Utc>,
    /// Whether more evidence is pending.
    pub(crate) more: bool,
}

/// The drafting side of a recorder.
pub(crate) struct Drafts {
    recorder: Recorder,
    governed: Governed,
    /// The actions of recent entries.
    subjects: LruCache<ActionId, Subject>,
}

impl Drafts {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self { recorder, governed: Governed::default(), subjects: LruCache::unbounded() }
    }

    /// After a pause, makes the draft that follows the one with these notes. Returns itself for the next one, so that
    /// there is at most one draft at a time.
    pub(crate) async fn next(
        mut self,
        before: Vec<i64>,
        pause: Duration,
    ) -> Result<(Self, Draft), RecorderError> {
        tokio::time::sleep(pause).await;
        let store = self.recorder.process.store.clone();
        let limit = self.recorder.process.settings.limits.transaction;
        let drafted = async {
            let tx = store.snapshot().await?;
            let draft = self.draft(&tx, &before).await?;
            tx.commit().await?;
            Ok::<_, RecorderError>(draft)
        };
        match tokio::time::timeout(limit, drafted).await {
            Ok(draft) => Ok((self, draft?)),
            Err(_) => Err(StoreError::Unavailable(format!("a draft took longer than {limit:?}")).into()),
        }
    }

    async fn draft(&mut self, tx: &Transaction, before: &[i64]) -> Result<Draft, RecorderError> {
        let limit = self.recorder.process.settings.ledger.batch_max.into();
        let Some(pending) = ledger::pending_batch(tx, limit, before).await? else {
            return Ok(Draft::default());
        };
        self.look_up(tx, &pending.rows).await?;
        let mut entries = Vec::with_capacity(pending.rows.len());
        for row in pending.rows {
            entries.push(self.entry(tx, pending.now, row).await?);
        }
        while self.subjects.len() > CACHED_MAX {
            self.subjects.pop_lru();
        }
        Ok(Draft { notes: pending.notes, entries, at: pending.now, more: pending.more })
    }

    async fn entry(
        &mut self,
        tx: &Transaction,
        recorded_at: DateTime<Utc>,
        row: Pending,
    ) -> Result<NewEntry, RecorderError> {
        let settings = &self.recorder.process.settings.ledger;
        let mut subject = match row.action {
            Some(action) => Some(self.subjects.get_mut(&action).ok_or_else(|| unknown(&row, action))?),
            None => None,
        };
        let facts = subject.as_ref().map(|subject| &subject.facts);
        let governing = self.governed.of(tx, &row, facts).await?;
        let written =
            Row { event: row.event, kind: &row.kind, body: &row.body, occurred_at: row.occurred_at };
        let context = Context {
            recorded_at,
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
        let leaf = leaf_hash(&entry);
        let Pending { evidence, event, action, kind, .. } = row;
        Ok(NewEntry { evidence, event, action, kind, entry, leaf })
    }

    /// Reads the actions of these rows that are not cached. The cache stays valid: nobody else appends, and a failure
    /// discards it.
    async fn look_up(&mut self, tx: &Transaction, rows: &[Pending]) -> Result<(), StoreError> {
        let actions: HashSet<ActionId> = rows.iter().filter_map(|row| row.action).collect();
        let (known, new): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| self.subjects.contains(action));
        // Those of this draft are evicted last.
        for action in &known {
            self.subjects.promote(action);
        }
        for (action, subject) in ledger::subjects(tx, &new).await? {
            self.subjects.put(action, subject);
        }
        Ok(())
    }
}
