//! Messages that could not be processed, with their senders.

use chrono::{DateTime, Utc};
use countersign_core::{
    evidence::{Event, MessageQuarantined, MessageReplayed},
    refusal::Code,
};
use serde::Serialize;

use crate::{
    StoreError, Transaction,
    evidence::{self, Evidence},
    outcomes::storable,
};

/// How much of a message is stored, in bytes.
pub const BODY_MAX: usize = 256 * 1024;

/// A message to be quarantined.
#[derive(Clone, Debug)]
pub struct NewEntry<'a> {
    /// The raw bytes; over [`BODY_MAX`] they are cut.
    pub body: &'a [u8],
    /// The AMQP user that the broker validated.
    pub author: Option<&'a str>,
    /// The exchange that it was published to.
    pub exchange: &'a str,
    /// The routing key that it was published with.
    pub routing_key: &'a str,
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub message: &'a str,
}

/// A quarantined message.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its id, by which it is replayed.
    pub id: i64,
    /// The raw bytes.
    #[serde(skip)]
    pub body: Vec<u8>,
    /// Whether `body` was cut; then it cannot be replayed.
    pub truncated: bool,
    /// The AMQP user that the broker validated.
    pub author: Option<String>,
    /// The exchange that it was published to.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// Why, for programs.
    pub code: String,
    /// Why, for people.
    pub message: String,
    /// When it was quarantined.
    pub quarantined_at: DateTime<Utc>,
    /// When it was last replayed.
    pub replayed_at: Option<DateTime<Utc>>,
}

/// Stores a message and its evidence. Returns its id.
pub async fn insert(tx: &Transaction, entry: &NewEntry<'_>) -> Result<i64, StoreError> {
    let sql = "INSERT INTO quarantine (body, truncated, author, exchange, routing_key, code, message)
               VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id";
    let kept = &entry.body[..entry.body.len().min(BODY_MAX)];
    let truncated = kept.len() < entry.body.len();
    let (exchange, key) = (storable(entry.exchange), storable(entry.routing_key));
    let (author, message) = (entry.author.map(storable), storable(entry.message));
    let id: i64 = tx
        .query_one(sql, &[&kept, &truncated, &author, &exchange, &key, &entry.code.as_str(), &message])
        .await?
        .get(0);
    let noted = MessageQuarantined { quarantine: id, code: entry.code, exchange };
    evidence::insert(tx, &[Evidence::global(Event::MessageQuarantined(noted))]).await?;
    Ok(id)
}

const COLUMNS: &str =
    "SELECT id, body, truncated, author, exchange, routing_key, code, message, quarantined_at,
                              replayed_at FROM quarantine";

fn entry(row: &tokio_postgres::Row) -> Entry {
    Entry {
        id: row.get(0),
        body: row.get(1),
        truncated: row.get(2),
        author: row.get(3),
        exchange: row.get(4),
        routing_key: row.get(5),
        code: row.get(6),
        message: row.get(7),
        quarantined_at: row.get(8),
        replayed_at: row.get(9),
    }
}

/// The newest messages.
pub async fn list(tx: &Transaction, limit: i64) -> Result<Vec<Entry>, StoreError> {
    let rows = tx.query(&format!("{COLUMNS} ORDER BY id DESC LIMIT $1"), &[&limit]).await?;
    Ok(rows.iter().map(entry).collect())
}

/// One message.
pub async fn get(tx: &Transaction, id: i64) -> Result<Option<Entry>, StoreError> {
    let row = tx.query_opt(&format!("{COLUMNS} WHERE id = $1"), &[&id]).await?;
    Ok(row.as_ref().map(entry))
}

/// Records that a message was replayed.
pub async fn replayed(tx: &Transaction, id: i64) -> Result<(), StoreError> {
    tx.execute("UPDATE quarantine SET replayed_at = now() WHERE id = $1", &[&id]).await?;
    evidence::insert(tx, &[Evidence::global(Event::MessageReplayed(MessageReplayed { quarantine: id }))])
        .await
}
