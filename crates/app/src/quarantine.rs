//! The quarantine: messages that could not be processed.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use countersign_broker::{
    publisher::Publisher,
    topology::{DECISIONS, takes_actions},
};
use countersign_core::message::Command;
use countersign_runtime::messages;
pub use countersign_store::quarantine::Entry;
use countersign_store::{Store, Transaction, quarantine};
use serde::Serialize;

use crate::{AppError, Connections};

/// A quarantined message with its bytes.
#[derive(Clone, Debug, Serialize)]
pub struct QuarantinedMessage {
    /// The bytes as text; what is not UTF-8 is replaced.
    pub body: String,
    /// Who sent it where, and why it is here.
    pub entry: Entry,
}

/// Lists at most `limit` quarantined messages, the newest first.
///
/// # Errors
/// Where the database cannot be read.
pub async fn list(connections: &Connections, limit: i64) -> Result<Vec<Entry>, AppError> {
    let tx = connections.store()?.transaction().await?;
    Ok(quarantine::list(&tx, limit).await?)
}

/// One quarantined message.
///
/// # Errors
/// Where there is no message with this number, or the database cannot be read.
pub async fn show(connections: &Connections, id: i64) -> Result<QuarantinedMessage, AppError> {
    let tx = connections.store()?.transaction().await?;
    let entry = entry(&tx, id).await?;
    Ok(QuarantinedMessage { body: String::from_utf8_lossy(&entry.body).into_owned(), entry })
}

async fn entry(tx: &Transaction, id: i64) -> Result<Entry, AppError> {
    let entry = quarantine::get(tx, id).await?;
    entry.ok_or_else(|| AppError::NotFound(format!("there is no message {id}")))
}

/// A message that a router has processed again.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReplayedMessage {
    /// The message's number.
    pub replayed: i64,
}

/// How far this machine's clock may be ahead of the database's.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);

/// The interval between polls of the database, and their number: 10 s in all.
const POLL: (Duration, usize) = (Duration::from_millis(100), 100);

/// Has a router process a message again, with the author that it had.
///
/// # Errors
/// Where there is no such message, it is not a whole proposal or decision, no router replays it within 10 seconds, or
/// the broker or the database refuses.
pub async fn replay(connections: &Connections, id: i64) -> Result<ReplayedMessage, AppError> {
    let store = connections.store()?;
    let entry = entry(&store.transaction().await?, id).await?;
    if !(takes_actions(&entry.exchange) || entry.exchange == DECISIONS) || entry.truncated {
        return Err(AppError::State(format!(
            "only whole proposals and decisions can be replayed; see `quarantine show {id}`"
        )));
    }
    let since = Utc::now() - CLOCK_SKEW;
    let publisher = Publisher::connect(connections.amqp()?, "countersign-app:replay").await?;
    let command = messages::command("router", Command::Replay { quarantine: id }, Utc::now());
    publisher.publish(&[command]).await?;
    let (interval, times) = POLL;
    for _ in 0..times {
        if replayed(&store, id, since).await? {
            return Ok(ReplayedMessage { replayed: id });
        }
        tokio::time::sleep(interval).await;
    }
    Err(AppError::State(
        "it was sent, but no router has processed it yet, or the message was truncated and cannot be replayed".into(),
    ))
}

async fn replayed(store: &Store, id: i64, since: DateTime<Utc>) -> Result<bool, AppError> {
    let entry = quarantine::get(&store.transaction().await?, id).await?;
    Ok(entry.is_some_and(|entry| entry.replayed_at.is_some_and(|at| at >= since)))
}
