//! What a lane hands over to whoever handles its messages.

use std::time::Duration;

use async_trait::async_trait;
use countersign_core::refusal::Code;

use crate::publisher::Outgoing;

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The bytes.
    pub body: Vec<u8>,
    /// The AMQP user that the broker validated, if the publisher named itself.
    pub author: Option<String>,
    /// The exchange it was published to.
    pub exchange: String,
    /// The key it was published with.
    pub routing_key: String,
    /// Whether it carries CC or BCC headers, which bypass topic permissions.
    pub copied: bool,
    /// Why its properties or headers are not as they were sent: then it is quarantined before anything reads it.
    pub unreadable: Option<String>,
}

/// Why messages were not handled. Handling is idempotent, so whatever was committed is not done twice.
#[derive(Debug)]
pub enum Failure {
    /// A deadlock or serialization failure: the messages are handled again at once.
    Retry(String),
    /// The database refused a statement: one of the messages is at fault if it is refused alone, too.
    Refused(String),
    /// There was no answer, for example because the connection was lost. One of the messages may be at fault, but seldom is.
    Unanswered(String),
    /// The database is away, full or not set up, or a lock is held: no message is at fault, and the lane restarts.
    Unavailable(String),
}

/// What a lane does with its messages.
#[async_trait]
pub trait Handler: Send {
    /// Returns once the database answers: a lane consumes only after that.
    async fn ready(&mut self) -> Result<(), Failure>;

    /// Waits until there is room for what the batch will start. Not limited in time: being busy is not a failure.
    async fn admit(&mut self, _batch: &[Delivery]) {}

    /// Applies a batch, idempotently, each message's transition in one transaction with its evidence. Returns what follows from
    /// the states that are stored then.
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure>;

    /// The queues of which nothing more is to be taken for so long after what has been handled, because their senders send more
    /// than they may. Each is told once.
    fn pauses(&mut self) -> Vec<(String, Duration)> {
        vec![]
    }

    /// Whether the database is well: whether a transaction that writes succeeds.
    async fn probe(&mut self) -> Result<(), Failure> {
        self.ready().await
    }

    /// Quarantines a message that cannot be handled.
    async fn quarantine(&mut self, delivery: &Delivery, code: Code, reason: &str) -> Result<(), Failure>;
}
