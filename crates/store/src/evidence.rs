//! Evidence rows: written in the transaction of the state they describe, never changed.

use chrono::{DateTime, Utc};
use countersign_core::{evidence::Event, ids::ActionId};
use serde_json::Value;
use uuid::Uuid;

use crate::{Pipeline, StoreError, Transaction, transaction::parameters};

/// A row of evidence to be written.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The action that it is about, if it is about one.
    pub action: Option<ActionId>,
    /// What happened.
    pub event: Event,
}

impl Evidence {
    /// Evidence about one action.
    pub fn of(action: ActionId, event: Event) -> Self {
        Self { action: Some(action), event }
    }

    /// Evidence about no particular action.
    pub fn global(event: Event) -> Self {
        Self { action: None, event }
    }

    /// Evidence about an action, if there is one.
    pub fn about(action: Option<ActionId>, event: Event) -> Self {
        Self { action, event }
    }

    /// The stored kind.
    pub(crate) fn kind(&self) -> &'static str {
        self.event.kind().as_str()
    }

    /// The stored body: the ledger records its digest.
    pub(crate) fn body(&self) -> String {
        self.event.body().to_string()
    }
}

/// The most rows of evidence in one note for the recorder, which processes a note as a whole.
pub(crate) const NOTE_MAX: usize = 500;

/// The part of a statement that writes evidence rows and the note that they are pending. `rows` selects their event,
/// action, kind and body: up to [`NOTE_MAX`] rows, or none.
pub(crate) fn written(rows: &str) -> String {
    format!(
        "written AS (INSERT INTO evidence (event, action, kind, body) {rows} RETURNING id),
         pending AS (INSERT INTO evidence_pending (first, evidence)
                     SELECT min(id), array_agg(id ORDER BY id) FROM written HAVING count(*) > 0)"
    )
}

/// Writes evidence rows and the notes that they are pending.
pub async fn insert(tx: &Transaction, rows: &[Evidence]) -> Result<(), StoreError> {
    let mut writes = Pipeline::default();
    write(tx, &mut writes, rows).await?;
    tx.run(&writes).await.map(drop)
}

/// Adds [`insert`] to a pipeline.
pub async fn write(tx: &Transaction, writes: &mut Pipeline<'_>, rows: &[Evidence]) -> Result<(), StoreError> {
    let unnested = "SELECT event, action, kind, body::json
                    FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS u (event, action, kind, body)";
    let sql = format!("WITH {} SELECT", written(unnested));
    for rows in rows.chunks(NOTE_MAX) {
        let events: Vec<Uuid> = rows.iter().map(|_| Uuid::now_v7()).collect();
        let actions: Vec<Option<Uuid>> = rows.iter().map(|row| row.action.map(|id| id.0)).collect();
        let kinds: Vec<&str> = rows.iter().map(Evidence::kind).collect();
        let bodies: Vec<String> = rows.iter().map(Evidence::body).collect();
        writes.add(tx, &sql, parameters![events, actions, kinds, bodies]).await?;
    }
    Ok(())
}

/// One row of an action's timeline.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TimelineEntry {
    /// When, by the database's clock.
    pub occurred_at: DateTime<Utc>,
    /// What happened.
    pub kind: String,
    /// The particulars.
    pub body: Value,
}

/// Everything that happened to an action, in order.
pub async fn timeline(tx: &Transaction, action: ActionId) -> Result<Vec<TimelineEntry>, StoreError> {
    let sql = "SELECT occurred_at, kind, body FROM evidence WHERE action = $1 ORDER BY id";
    let rows = tx.query(sql, &[&action.0]).await?;
    Ok(rows
        .iter()
        .map(|row| TimelineEntry { occurred_at: row.get(0), kind: row.get(1), body: row.get(2) })
        .collect())
}
