use std::time::Duration;

/// What can go wrong between us and the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The URL is none.
    #[error("{url:?} is no AMQP URL: {reason}; write amqp://user:password@host:5672/vhost")]
    Url {
        /// Without its password.
        url: String,
        /// What the parser said.
        reason: String,
    },
    /// lapin's own error.
    #[error("{doing}: {source}")]
    Amqp {
        /// What was attempted, on what.
        doing: String,
        /// What lapin said.
        source: lapin::Error,
    },
    /// No answer within the limit. Whether the broker acted is unknown.
    #[error("{doing}: no answer within {limit:?}")]
    Timeout {
        /// What was attempted, on what.
        doing: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The broker did not take a message over.
    #[error("publishing to {exchange:?} was not confirmed: {why}")]
    Unconfirmed {
        /// Where to.
        exchange: String,
        /// Nacked, returned, or not asked.
        why: &'static str,
    },
    /// The consumer was cancelled, or its channel closed.
    #[error("the consumer of {0:?} was ended by the broker; was the queue deleted?")]
    ConsumerEnded(String),
    /// An ack went into a dead channel: the deliveries come back.
    #[error("the channel died before its deliveries were acked")]
    AckLost,
    /// A message is not what its queue holds.
    #[error("a message in {queue:?} cannot be read: {reason}")]
    Unreadable {
        /// Where it was.
        queue: String,
        /// What the parser said.
        reason: String,
    },
    /// The management API refused or could not be reached.
    #[error("{doing} at the management API: {reason}")]
    Management {
        /// What was attempted.
        doing: String,
        /// What came back.
        reason: String,
    },
}

/// Runs `future` under `limit`, naming what it does where it fails.
pub(crate) async fn within<T>(
    limit: Duration,
    doing: impl Fn() -> String,
    future: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(BrokerError::Amqp { doing: doing(), source }),
        Err(_) => Err(BrokerError::Timeout { doing: doing(), limit }),
    }
}
