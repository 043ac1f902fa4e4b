//! Reads a queue of events one by one, as agents, reviewer apps and auditors do.

use std::time::Duration;

use countersign_core::message::CloudEvent;
use futures_util::StreamExt as _;
use lapin::{
    Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde::de::DeserializeOwned;

use crate::{
    BrokerError,
    error::within,
    session::{REQUEST_LIMIT, Session},
};

/// The most deliveries that are prefetched.
const PREFETCH: u16 = 512;

/// A consumer of one queue. A returned event has been acked and is not delivered again.
pub struct Reader {
    consumer: Consumer,
    queue: String,
    _session: Session,
}

impl Reader {
    /// Connects as `name` and starts to consume.
    pub async fn open(url: &str, name: &str, queue: &str) -> Result<Self, BrokerError> {
        let session = Session::open(url, name).await?;
        let doing = || format!("consuming {queue:?}");
        let channel = &session.channel;
        within(REQUEST_LIMIT, doing, channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consume = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let consumer = within(REQUEST_LIMIT, doing, consume).await?;
        Ok(Self { consumer, queue: queue.into(), _session: session })
    }

    /// The next event, if one comes within `limit`.
    ///
    /// # Errors
    /// Where the connection fails, or where the message is not an event of this kind; it is acked nevertheless.
    pub async fn next<T: DeserializeOwned>(
        &mut self,
        limit: Duration,
    ) -> Result<Option<CloudEvent<T>>, BrokerError> {
        let Ok(next) = tokio::time::timeout(limit, self.consumer.next()).await else { return Ok(None) };
        let doing = || format!("reading {:?}", self.queue);
        let failed = |source| BrokerError::Amqp { doing: doing(), source };
        let delivery = next.ok_or_else(|| BrokerError::ConsumerEnded(self.queue.clone()))?.map_err(failed)?;
        if !within(REQUEST_LIMIT, doing, delivery.ack(BasicAckOptions::default())).await? {
            return Err(BrokerError::AckLost);
        }
        serde_json::from_slice(&delivery.data)
            .map(Some)
            .map_err(|error| BrokerError::Unreadable { queue: self.queue.clone(), reason: error.to_string() })
    }
}
