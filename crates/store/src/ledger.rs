//! The ledger: who may append, and what one batch of the recorder reads and writes.
//!
//! A batch is one transaction that begins with [`renew`]: it locks the recorder's row, so that a recorder that takes
//! over waits for it, and checks whether the fence is still its own.

pub mod bundle;
pub mod read;
pub mod verify;

use chrono::{DateTime, Utc};
use countersign_core::ids::{ActionId, ActionRef};
use countersign_ledger::{Hash, entry::ActionFacts, tree::Node};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{StoreError, Transaction};

/// The log's head, as its one writer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counts up with every takeover.
    pub fence: i64,
    /// The number of entries.
    pub size: u64,
}

fn head(row: &Row) -> Head {
    Head { fence: row.get(0), size: number(row.get(1)) }
}

/// Indexes are never negative.
pub(crate) fn number(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

/// An index as the database stores it; ledgers end at 2^53 entries.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Takes the lease for `seconds`, if nobody else has it.
pub async fn claim(tx: &Transaction, holder: &str, seconds: f64) -> Result<Option<Head>, StoreError> {
    let sql = "UPDATE recorder SET fence = fence + 1, holder = $1,
                      until = clock_timestamp() + make_interval(secs => $2)
               WHERE until < clock_timestamp() RETURNING fence, size";
    Ok(tx.query_opt(&tx.prepare_cached(sql).await?, &[&holder, &seconds]).await?.as_ref().map(head))
}

/// Renews the lease for `seconds`, and locks its row until the transaction ends. `None` if another recorder has taken
/// over.
pub async fn renew(tx: &Transaction, fence: i64, seconds: f64) -> Result<Option<Head>, StoreError> {
    // A recorder that is gone without its server knowing must not keep the row locked.
    let sql = "UPDATE recorder SET until = clock_timestamp() + make_interval(secs => $2)
               WHERE fence = $1 RETURNING fence, size,
                 set_config('idle_in_transaction_session_timeout', '4000', true)";
    Ok(tx.query_opt(&tx.prepare_cached(sql).await?, &[&fence, &seconds]).await?.as_ref().map(head))
}

/// Gives up the lease at once.
pub async fn release(tx: &Transaction, fence: i64) -> Result<(), StoreError> {
    let sql = "UPDATE recorder SET until = '-infinity' WHERE fence = $1";
    tx.execute(sql, &[&fence]).await?;
    Ok(())
}

/// A row of evidence that is about to become an entry.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Row of `evidence`.
    pub evidence: i64,
    /// The event's id.
    pub event: Uuid,
    /// What happened.
    pub kind: String,
    /// The particulars, byte for byte as they are stored.
    pub body: String,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// The action that it is about, if any.
    pub action: Option<ActionId>,
}

/// The pending evidence for one batch.
#[derive(Clone, Debug)]
pub struct PendingBatch {
    /// The notes that name the rows, for [`delete_notes`].
    pub notes: Vec<i64>,
    /// The rows, by their ids.
    pub rows: Vec<Pending>,
    /// Whether there is more.
    pub more: bool,
    /// The database's clock, after they were written.
    pub now: DateTime<Utc>,
}

/// Up to `limit` visible rows that are not in the ledger yet, the lowest ids first: those of one action come in the
/// order in which they were written. Never "ids above the last one", which commit out of order. Rows of one note come
/// together, even if they alone exceed the limit. Leaves out the notes in `excluded`. `None` if nothing is pending.
pub async fn pending_batch(
    tx: &Transaction,
    limit: i64,
    excluded: &[i64],
) -> Result<Option<PendingBatch>, StoreError> {
    let statement = tx.prepare_cached(include_str!("sql/pending_evidence.sql")).await?;
    let rows = tx.query(&statement, &[&limit, &excluded]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (all, now): (i64, _) = (first.get(7), first.get(8));
    let mut notes: Vec<i64> = rows.iter().map(|row| row.get(6)).collect();
    notes.sort_unstable();
    notes.dedup();
    let rows = rows.iter().map(pending).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(PendingBatch { notes, more: number(all) > rows.len() as u64, rows, now }))
}

/// Deletes notes whose rows become entries in this transaction.
///
/// # Errors
/// [`StoreError::Corrupt`] where one is missing: nobody but the recorder deletes them.
pub async fn delete_notes(tx: &Transaction, notes: &[i64]) -> Result<(), StoreError> {
    let sql = "DELETE FROM evidence_pending WHERE first = ANY ($1)";
    let deleted = tx.execute(&tx.prepare_cached(sql).await?, &[&notes]).await?;
    if deleted == notes.len() as u64 {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("only {deleted} of {} notes of pending evidence were left", notes.len())))
}

fn pending(row: &Row) -> Result<Pending, StoreError> {
    let evidence: i64 = row.get(0);
    let event: Option<Uuid> = row.get(1);
    let gone = || StoreError::Corrupt(format!("the evidence row {evidence} is gone before it was recorded"));
    Ok(Pending {
        evidence,
        event: event.ok_or_else(gone)?,
        kind: row.get(2),
        body: row.get(3),
        occurred_at: row.get(4),
        action: row.get::<_, Option<Uuid>>(5).map(ActionId),
    })
}

/// What an entry records of its action.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What never changes about it.
    pub facts: ActionFacts,
    /// The event of its latest entry.
    pub last: Option<Uuid>,
}

/// The actions that entries are about. Unknown ones are left out.
pub async fn subjects(
    tx: &Transaction,
    actions: &[ActionId],
) -> Result<Vec<(ActionId, Subject)>, StoreError> {
    if actions.is_empty() {
        return Ok(vec![]);
    }
    let sql = "SELECT a.id, a.source, a.event_id, a.agent, a.tool, a.traceparent, a.compensates, before.event
               FROM UNNEST($1::uuid[]) AS wanted (id)
               CROSS JOIN LATERAL (SELECT * FROM actions WHERE id = wanted.id LIMIT 1) a
               LEFT JOIN LATERAL (SELECT event FROM ledger WHERE action = wanted.id
                                  ORDER BY index DESC LIMIT 1) before ON true";
    let ids: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&ids]).await?;
    let subject = |row: &Row| {
        let id = ActionId(row.get(0));
        let facts = ActionFacts {
            id,
            reference: ActionRef { source: row.get(1), id: row.get(2) },
            agent: row.get(3),
            tool: row.get(4),
            traceparent: row.get(5),
            compensates: row.get::<_, Option<Uuid>>(6).map(ActionId),
        };
        (id, Subject { facts, last: row.get(7) })
    };
    Ok(rows.iter().map(subject).collect())
}

/// An entry to be appended.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Row of `evidence`.
    pub evidence: i64,
    /// The event's id.
    pub event: Uuid,
    /// The action that it is about, if any.
    pub action: Option<ActionId>,
    /// What happened.
    pub kind: String,
    /// Canonical JSON.
    pub entry: Vec<u8>,
    /// Its leaf hash.
    pub leaf: Hash,
}

/// Appends entries from index `first` on.
pub async fn append(tx: &Transaction, first: u64, entries: &[NewEntry]) -> Result<(), StoreError> {
    let sql = "INSERT INTO ledger (index, evidence, event, action, kind, entry, leaf)
               SELECT $1 + n - 1, evidence, event, action, kind, entry, leaf
               FROM UNNEST($2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::bytea[], $7::bytea[])
                 WITH ORDINALITY AS u (evidence, event, action, kind, entry, leaf, n)";
    let evidence: Vec<i64> = entries.iter().map(|entry| entry.evidence).collect();
    let events: Vec<Uuid> = entries.iter().map(|entry| entry.event).collect();
    let actions: Vec<Option<Uuid>> = entries.iter().map(|entry| entry.action.map(|id| id.0)).collect();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.kind.as_str()).collect();
    let bytes: Vec<&[u8]> = entries.iter().map(|entry| entry.entry.as_slice()).collect();
    let leaves: Vec<&[u8]> = entries.iter().map(|entry| entry.leaf.as_slice()).collect();
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&stored(first), &evidence, &events, &actions, &kinds, &bytes, &leaves]).await?;
    Ok(())
}

/// Stores the nodes above tiles that have become full.
pub async fn add_nodes(tx: &Transaction, nodes: &[Node]) -> Result<(), StoreError> {
    if nodes.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO ledger_nodes (level, index, hash)
               SELECT * FROM UNNEST($1::smallint[], $2::bigint[], $3::bytea[])";
    let levels: Vec<i16> = nodes.iter().map(|node| node.level.into()).collect();
    let indexes: Vec<i64> = nodes.iter().map(|node| stored(node.index)).collect();
    let hashes: Vec<&[u8]> = nodes.iter().map(|node| node.hash.as_slice()).collect();
    tx.execute(&tx.prepare_cached(sql).await?, &[&levels, &indexes, &hashes]).await?;
    Ok(())
}

/// A stored checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The number of entries that it covers.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// The signed note.
    pub note: String,
    /// When the batch was drafted, which is also the recording time of its entries.
    pub signed_at: DateTime<Utc>,
}

/// Moves the head to a checkpoint's size, and stores the checkpoint.
///
/// # Errors
/// [`StoreError::Refused`] where the fence is no longer the caller's, or the head has moved.
pub async fn advance(tx: &Transaction, fence: i64, from: u64, checkpoint: &Signed) -> Result<(), StoreError> {
    let sql = "WITH moved AS (
                 UPDATE recorder SET size = $3 WHERE fence = $1 AND size = $2 RETURNING size)
               INSERT INTO checkpoints (size, root, note, signed_at) SELECT size, $4, $5, $6 FROM moved";
    let Signed { size, root, note, signed_at } = checkpoint;
    let moved = tx
        .execute(
            &tx.prepare_cached(sql).await?,
            &[&fence, &stored(from), &stored(*size), &root.as_slice(), note, signed_at],
        )
        .await?;
    if moved == 1 {
        return Ok(());
    }
    Err(StoreError::Refused(format!("the ledger is not at {from} entries under the fence {fence}")))
}

/// Which configuration was made active in which generation, in order.
pub async fn generations(tx: &Transaction) -> Result<Vec<(i64, i64)>, StoreError> {
    let sql = "SELECT (body ->> 'generation')::bigint, (body ->> 'config')::bigint
               FROM evidence WHERE kind = 'config.applied' ORDER BY id";
    Ok(tx
        .query(&tx.prepare_cached(sql).await?, &[])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect())
}
