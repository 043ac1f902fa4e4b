//! Findings on gold items, and what becomes evidence of them.

use chrono::{DateTime, Utc};
use countersign_core::{
    audit::Opinion,
    evidence::{Event, Kind},
    ids::AuditId,
};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    StoreError, Transaction,
    audits::FindingRow,
    evidence::{self, Evidence, TimelineEntry},
    outcomes::storable,
};

/// A finding so far.
#[derive(Clone, Debug)]
pub struct GoldFinding {
    /// The auditor.
    pub auditor: String,
    /// The finding and its severity.
    pub opinion: Opinion,
    /// Whether the auditor had not judged the action before: only then does it count.
    pub blind: bool,
}

/// The findings on a locked gold item so far, oldest first.
pub async fn findings(tx: &Transaction, item: AuditId) -> Result<Vec<GoldFinding>, StoreError> {
    let sql = "SELECT auditor, finding, severity, blind FROM gold_findings WHERE item = $1 ORDER BY found_at, auditor";
    let found = |row: &Row| {
        let finding = row.get::<_, &str>(1).parse().map_err(StoreError::Corrupt)?;
        let severity =
            row.get::<_, Option<&str>>(2).map(str::parse).transpose().map_err(StoreError::Corrupt)?;
        Ok(GoldFinding { auditor: row.get(0), opinion: Opinion { finding, severity }, blind: row.get(3) })
    };
    tx.query(&tx.prepare_cached(sql).await?, &[&item.0]).await?.iter().map(found).collect()
}

/// Records a finding on a locked, open gold item.
pub async fn insert_finding(tx: &Transaction, row: &FindingRow, blind: bool) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO gold_findings (item, auditor, finding, severity, reason_code, reason, correction, patch,
                                          compensate, kid, blind)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let reason = row.reason.as_deref().map(storable);
    let parameters: [&(dyn ToSql + Sync); 11] = [
        &row.audit.0,
        &row.auditor,
        &row.opinion.finding.as_str(),
        &row.opinion.severity.map(|severity| severity.as_str()),
        &row.reason_code,
        &reason,
        &row.correction,
        &row.patch,
        &row.compensate,
        &row.kid,
        &blind,
    ];
    tx.execute(&tx.prepare_cached(sql).await?, &parameters).await?;
    Ok(())
}

/// Notes what is to become evidence. While the item is open it stays here; afterwards it is written at once.
pub async fn note(tx: &Transaction, item: AuditId, open: bool, event: Event) -> Result<(), StoreError> {
    let sql = "INSERT INTO gold_notes (item, kind, body) VALUES ($1, $2, $3::text::json)";
    let (kind, body) = (event.kind().as_str(), event.body().to_string());
    tx.execute(&tx.prepare_cached(sql).await?, &[&item.0, &kind, &body]).await?;
    if open { Ok(()) } else { evidence::insert(tx, &[Evidence::global(event)]).await }
}

/// Writes as evidence what has been noted of an item that is settled in this transaction, with `settled` behind it. It names
/// no action: nothing of it belongs to the evidence of the action that the item has shown.
pub async fn record_notes(tx: &Transaction, item: AuditId, settled: Event) -> Result<(), StoreError> {
    let sql = "SELECT kind, body::text FROM gold_notes WHERE item = $1 ORDER BY id";
    let mut rows = Vec::new();
    for row in tx.query(&tx.prepare_cached(sql).await?, &[&item.0]).await? {
        let corrupt = |why: String| StoreError::Corrupt(format!("a note of gold item {item}: {why}"));
        let kind: Kind = row.get::<_, &str>(0).parse().map_err(|error| corrupt(format!("{error}")))?;
        let event = Event::decode(kind, row.get(1)).map_err(|error| corrupt(error.to_string()))?;
        rows.push(Evidence::global(event));
    }
    rows.push(Evidence::global(settled));
    evidence::insert(tx, &rows).await
}

/// What was noted of a gold item under this event: the answer to whoever sent it.
pub async fn answer(
    tx: &Transaction,
    item: AuditId,
    event: &str,
) -> Result<Option<TimelineEntry>, StoreError> {
    let sql = "SELECT noted_at, kind, body FROM gold_notes WHERE item = $1 AND body ->> 'event' = $2
               ORDER BY id DESC LIMIT 1";
    let row = tx.query_opt(sql, &[&item.0, &event]).await?;
    Ok(row.map(|row| TimelineEntry {
        occurred_at: row.get::<_, DateTime<Utc>>(0),
        kind: row.get(1),
        body: row.get(2),
    }))
}
