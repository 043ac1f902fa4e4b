//! Messages that cannot be processed, kept for an operator.

use countersign_broker::lane::Delivery;
use countersign_core::refusal::Code;
use countersign_store::{Store, StoreError, quarantine};

/// A delivery as a row of the quarantine.
pub fn entry<'a>(delivery: &'a Delivery, code: Code, message: &'a str) -> quarantine::NewEntry<'a> {
    quarantine::NewEntry {
        body: &delivery.body,
        author: delivery.author.as_deref(),
        exchange: &delivery.exchange,
        routing_key: &delivery.routing_key,
        code,
        message,
    }
}

/// Quarantines a message in a transaction of its own.
pub async fn keep(store: &Store, delivery: &Delivery, code: Code, reason: &str) -> Result<(), StoreError> {
    tracing::warn!(%code, reason, exchange = delivery.exchange, "message quarantined");
    let tx = store.transaction().await?;
    quarantine::insert(&tx, &entry(delivery, code, reason)).await?;
    tx.commit().await
}
