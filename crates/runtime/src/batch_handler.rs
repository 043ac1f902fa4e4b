//! Lanes whose handlers use the database: the handler applies the batch, and the rest is the same for all.

use std::time::Duration;

use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::refusal::Code;
use countersign_store::{Store, StoreError};

use crate::quarantine;

/// Processes the messages of one lane.
#[async_trait]
pub trait BatchHandler: Send {
    /// Called before the lane connects, at the start and after every failure: drops what an unfinished batch has left.
    fn restart(&mut self) {}

    /// Waits until there is room for what the batch will start, for as long as that takes.
    async fn admit(&mut self, _batch: &[Delivery]) {}

    /// Applies a batch, idempotently, each message's transition in one transaction with its evidence. Returns the messages
    /// that follow from the states stored then.
    ///
    /// # Errors
    /// Whatever the database answers. A deadlock is retried; a message that fails alone, again and again, while the database is
    /// well, is quarantined; where the database is not well, the lane restarts.
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError>;

    /// The queues of which nothing more is to be taken for so long, after what has been handled. Each is told once.
    fn pauses(&mut self) -> Vec<(String, Duration)> {
        vec![]
    }

    /// Quarantines a message that fails alone, again and again.
    ///
    /// # Errors
    /// Whatever the database answers.
    async fn quarantine(
        &mut self,
        store: &Store,
        delivery: &Delivery,
        code: Code,
        reason: &str,
    ) -> Result<(), StoreError> {
        quarantine::keep(store, delivery, code, reason).await
    }
}

/// Adapts a [`BatchHandler`] to the broker's lanes.
pub(crate) struct Adapter<H> {
    pub(crate) store: Store,
    pub(crate) handler: H,
}

#[async_trait]
impl<H: BatchHandler> Handler for Adapter<H> {
    async fn ready(&mut self) -> Result<(), Failure> {
        self.handler.restart();
        self.store.ping().await.map_err(failure)
    }

    async fn admit(&mut self, batch: &[Delivery]) {
        self.handler.admit(batch).await;
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        self.handler.handle(batch).await.map_err(failure)
    }

    fn pauses(&mut self) -> Vec<(String, Duration)> {
        self.handler.pauses()
    }

    async fn probe(&mut self) -> Result<(), Failure> {
        self.store.probe().await.map_err(|error| Failure::Unavailable(error.to_string()))
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: Code, reason: &str) -> Result<(), Failure> {
        self.handler.quarantine(&self.store, delivery, code, reason).await.map_err(failure)
    }
}

/// How a lane reacts to an error of the database.
fn failure(error: StoreError) -> Failure {
    let message = error.to_string();
    if error.is_retryable() {
        Failure::Retry(message)
    } else if error.is_refusal() {
        Failure::Refused(message)
    } else if error.is_unanswered() {
        Failure::Unanswered(message)
    } else {
        Failure::Unavailable(message)
    }
}
