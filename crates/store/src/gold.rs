//! Gold items: audits of which the right finding is known, because they show what an earlier, settled one showed.
//!
//! **Nothing follows from them.** They have tables of their own, which no other statement reads than those that mix them into
//! what auditors see, erase what is about people, prove the draw and count how auditors did.

mod candidates;
mod counts;
mod draws;
mod findings;
mod proof;

use chrono::{DateTime, TimeDelta, Utc};
use countersign_core::{
    audit::Settled,
    ids::{ActionId, AuditId},
    message::{AuditReason, Finding},
};
use tokio_postgres::Row;
use uuid::Uuid;

pub use self::{
    candidates::{Candidate, candidates, judges},
    counts::{Judged, judged, rules_of_groups},
    draws::{DueDraw, NewGoldDraw, due, insert_draws, take},
    findings::{GoldFinding, answer, findings, insert_finding, note, record_notes},
    proof::{Choice, choices},
};
use crate::{StoreError, Transaction, audits::Request};

/// A gold item to be opened.
#[derive(Clone, Debug)]
pub struct NewGold<'a> {
    /// Its id, made like that of any audit.
    pub id: AuditId,
    /// The action whose audit drew it.
    pub draw: ActionId,
    /// The earlier audit that it shows again.
    pub audit: AuditId,
    /// What was found then.
    pub known: Finding,
    /// The earlier audits among which the key has chosen.
    pub candidates: &'a [AuditId],
    /// The group whose members may judge it.
    pub group: &'a str,
    /// Whether two auditors must judge it.
    pub twice: bool,
}

/// Opens a gold item.
pub async fn open(tx: &Transaction, new: &NewGold<'_>) -> Result<(), StoreError> {
    let sql = "INSERT INTO gold_items (id, draw, audit, known, candidates, group_name, twice)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let candidates: Vec<Uuid> = new.candidates.iter().map(|audit| audit.0).collect();
    let NewGold { id, draw, audit, known, group, twice, .. } = new;
    let known = known.as_str();
    tx.execute(sql, &[&id.0, &draw.0, &audit.0, &known, &candidates, group, twice]).await?;
    Ok(())
}

/// A gold item as stored.
#[derive(Clone, Debug)]
pub struct GoldRecord {
    /// Its id.
    pub id: AuditId,
    /// The earlier audit.
    pub audit: AuditId,
    /// What was found then.
    pub known: Finding,
    /// The action that both show.
    pub action: ActionId,
    /// The group whose members may judge it.
    pub group: String,
    /// Whether it is waiting for findings.
    pub open: bool,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// How much later that was than for the earlier audit.
    pub later: TimeDelta,
    /// Whether two auditors must judge it.
    pub twice: bool,
    /// How many further auditors have been asked.
    pub round: i32,
    /// The epoch in which it was drawn.
    pub epoch: i64,
}

impl GoldRecord {
    /// What a request for it says: the same as that for the earlier audit.
    pub fn request(&self) -> Request<'_> {
        let (group, opened_at) = (self.group.as_str(), self.opened_at);
        Request { id: self.id, reason: AuditReason::Sampled, group, opened_at, round: self.round }
    }
}

fn record(row: &Row) -> Result<GoldRecord, StoreError> {
    let opened_at: DateTime<Utc> = row.get(6);
    Ok(GoldRecord {
        id: AuditId(row.get(0)),
        audit: AuditId(row.get(1)),
        known: row.get::<_, &str>(2).parse().map_err(StoreError::Corrupt)?,
        action: ActionId(row.get(3)),
        group: row.get(4),
        open: row.get::<_, &str>(5) == "open",
        opened_at,
        later: opened_at - row.get::<_, DateTime<Utc>>(7),
        twice: row.get(8),
        round: row.get(9),
        epoch: row.get(10),
    })
}

const SELECT: &str = "SELECT g.id, g.audit, g.known, u.action, g.group_name, g.state, g.opened_at, u.opened_at, g.twice, g.round, d.epoch
                      FROM gold_items g JOIN audits u ON u.id = g.audit JOIN gold_draws d ON d.action = g.draw";

/// Those of these ids that are gold items.
pub async fn of(tx: &Transaction, ids: &[AuditId]) -> Result<Vec<GoldRecord>, StoreError> {
    let sql = format!("{SELECT} WHERE g.id = ANY($1) ORDER BY g.id");
    tx.query(&tx.prepare_cached(&sql).await?, &[&uuids(ids)]).await?.iter().map(record).collect()
}

/// The same, locked until the transaction ends.
pub async fn lock(tx: &Transaction, ids: &[AuditId]) -> Result<Vec<GoldRecord>, StoreError> {
    // Read afterwards: rows joined in the locking statement could be older than the lock.
    let sql = "SELECT id FROM gold_items WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    if tx.query(&tx.prepare_cached(sql).await?, &[&uuids(ids)]).await?.is_empty() {
        return Ok(vec![]);
    }
    of(tx, ids).await
}

/// The open gold items that show one of these actions.
pub async fn open_of(tx: &Transaction, actions: &[ActionId]) -> Result<Vec<AuditId>, StoreError> {
    let sql = "SELECT g.id FROM gold_items g JOIN audits u ON u.id = g.audit WHERE u.action = ANY($1) AND g.state = 'open'";
    let actions: Vec<Uuid> = actions.iter().map(|action| action.0).collect();
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&actions]).await?;
    Ok(rows.iter().map(|row| AuditId(row.get(0))).collect())
}

/// Marks as published now those of these gold items that are open and were last published more than `seconds` ago. Returns
/// their ids.
pub async fn published(tx: &Transaction, ids: &[AuditId], seconds: f64) -> Result<Vec<AuditId>, StoreError> {
    let sql = "UPDATE gold_items SET published_at = now()
               WHERE id = ANY($1) AND state = 'open' AND published_at < now() - make_interval(secs => $2)
               RETURNING id";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&uuids(ids), &seconds]).await?;
    Ok(rows.iter().map(|row| AuditId(row.get(0))).collect())
}

/// Records the settled result of a locked, open gold item.
pub async fn settle(tx: &Transaction, id: AuditId, settled: &Settled) -> Result<(), StoreError> {
    let sql = "UPDATE gold_items SET state = 'judged', finding = $2, judged_at = clock_timestamp()
               WHERE id = $1 AND state = 'open'";
    tx.execute(&tx.prepare_cached(sql).await?, &[&id.0, &settled.finding.as_str()]).await?;
    Ok(())
}

/// Asks another auditor about a locked, open gold item.
pub async fn ask_another(tx: &Transaction, id: AuditId) -> Result<(), StoreError> {
    let sql = "UPDATE gold_items SET round = round + 1, published_at = clock_timestamp() WHERE id = $1 AND state = 'open'";
    tx.execute(&tx.prepare_cached(sql).await?, &[&id.0]).await?;
    Ok(())
}

/// Withdraws the open gold items that show these actions: nobody is asked about them any more, and they count for nothing.
pub(crate) async fn withdraw(tx: &Transaction, actions: &[Uuid]) -> Result<(), StoreError> {
    let sql = "UPDATE gold_items g SET state = 'withdrawn' FROM audits u
               WHERE u.id = g.audit AND u.action = ANY($1) AND g.state = 'open'";
    tx.execute(sql, &[&actions]).await?;
    Ok(())
}

/// The actions of all open gold items.
pub(crate) async fn shown(tx: &Transaction) -> Result<Vec<Uuid>, StoreError> {
    let sql = "SELECT u.action FROM gold_items g JOIN audits u ON u.id = g.audit WHERE g.state = 'open'";
    Ok(tx.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Whoever opens gold items, places a legal hold or erases waits for the others until the transaction ends: what is held or
/// erased is not shown again.
pub async fn exclude_erasure(tx: &Transaction) -> Result<(), StoreError> {
    tx.execute("SELECT pg_advisory_xact_lock(hashtext('countersign.gold_items'))", &[]).await?;
    Ok(())
}

/// Ends the draw of an epoch whose key is revealed in this transaction: with it, anybody could tell which items it drew.
pub(crate) async fn close_epoch(tx: &Transaction, epoch: i64) -> Result<(), StoreError> {
    let sql = "UPDATE gold_draws SET opened_at = now() WHERE epoch = $1 AND opened_at IS NULL";
    tx.execute(sql, &[&epoch]).await?;
    let sql = "UPDATE gold_items g SET state = 'withdrawn' FROM gold_draws d
               WHERE d.action = g.draw AND d.epoch = $1 AND g.state = 'open'";
    tx.execute(sql, &[&epoch]).await?;
    Ok(())
}

fn uuids(ids: &[AuditId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}
