use std::time::Duration;

/// Errors of the broker and its connections.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The URL is malformed.
    #[error("{url:?} is not an AMQP URL: {reason}; write amqp://user:password@host:5672/vhost")]
    Url {
        /// The URL, without its password.
        url: String,
        /// The parser's message.
        reason: String,
    },
    /// lapin's own error.
    #[error("{doing}: {source}")]
    Amqp {
        /// What was attempted, on what.
        doing: String,
        /// lapin's error.
        source: lapin::Error,
    },
    /// No answer within the limit. Whether the broker acted is unknown.
    #[error("{doing}: no answer within {limit:?}")]
    Timeout {
        /// What was attempted, on what.
        doing: String,
        /// The limit.
        limit: Duration,
    },
    /// The broker did not confirm a message.
    #[error("the broker did not confirm a message to {exchange:?}: {why}")]
    Unconfirmed {
        /// The exchange.
        exchange: String,
        /// What the broker answered instead.
        why: &'static str,
    },
    /// AMQP has no room for a name.
    #[error("AMQP names have at most 255 bytes, not {bytes}: {start:?}...")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How it begins.
        start: String,
    },
    /// The consumer was cancelled, or its channel closed.
    #[error("the broker ended the consumer of {0:?}; was the queue deleted?")]
    ConsumerEnded(String),
    /// An ack was lost with its channel: the broker delivers the messages again.
    #[error("the channel was closed before its deliveries were acked")]
    AckLost,
    /// A message is not of the kind that its queue holds.
    #[error("a message in {queue:?} cannot be read: {reason}")]
    Unreadable {
        /// The queue.
        queue: String,
        /// The parser's message.
        reason: String,
    },
    /// The management API refused or could not be reached.
    #[error("{doing} at the management API: {reason}")]
    Management {
        /// What was attempted.
        doing: String,
        /// The answer.
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
