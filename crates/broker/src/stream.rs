//! Reading and feeding the audit stream over AMQP 0-9-1.
//!
//! A reader names the offset to start with and keeps its own position. The end of a stream cannot be queried; it is found
//! by writing a marker, a batch without events, and reading up to it.

use std::time::Duration;

use countersign_ledger::event::{self, Sequenced};
use futures_util::StreamExt as _;
use lapin::{
    Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::value::RawValue;

use crate::{
    BrokerError,
    error::within,
    publisher::{BATCH_CONTENT_TYPE, Outgoing, Publisher},
    session::{REQUEST_LIMIT, Session},
    topology::AUDIT_STREAM,
};

/// The most messages that are prefetched.
const PREFETCH: u16 = 64;

/// How long to wait for the last chunk, if there is one.
const SEEK_LIMIT: Duration = Duration::from_secs(2);

/// How many messages the first step back for the last event covers.
const STEP_BACK: u64 = 256;

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// With the oldest message that is kept.
    First,
    /// With the last chunk that was written: a few messages before the end.
    Last,
    /// With this message, or the oldest that is kept.
    At(u64),
}

/// A message of the stream.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its offset.
    pub offset: u64,
    /// Its id.
    pub message_id: String,
    /// A JSON array of CloudEvents.
    pub body: Vec<u8>,
}

fn unreadable(reason: impl ToString) -> BrokerError {
    BrokerError::Unreadable { queue: AUDIT_STREAM.into(), reason: reason.to_string() }
}

impl Batch {
    /// Its events. There may be none.
    pub fn events(&self) -> Result<Vec<Sequenced<'_>>, BrokerError> {
        event::events(&self.body).map_err(unreadable)
    }

    /// Its events as they were written.
    pub fn texts(&self) -> Result<Vec<&RawValue>, BrokerError> {
        event::texts(&self.body).map_err(unreadable)
    }
}

/// A reader of the audit stream.
pub struct StreamReader {
    consumer: Consumer,
    _session: Session,
}

impl StreamReader {
    /// Connects as `name` and starts to read.
    pub async fn open(url: &str, name: &str, from: Offset) -> Result<Self, BrokerError> {
        let session = Session::open(url, name).await?;
        let doing = || format!("consuming {AUDIT_STREAM:?}");
        let qos = session.channel.basic_qos(PREFETCH, BasicQosOptions::default());
        within(REQUEST_LIMIT, doing, qos).await?;
        let mut arguments = FieldTable::default();
        let offset = match from {
            Offset::First => AMQPValue::LongString("first".into()),
            Offset::Last => AMQPValue::LongString("last".into()),
            Offset::At(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
        };
        arguments.insert("x-stream-offset".into(), offset);
        let options = BasicConsumeOptions::default();
        let consume = session.channel.basic_consume(AUDIT_STREAM.into(), "".into(), options, arguments);
        let consumer = within(REQUEST_LIMIT, doing, consume).await?;
        Ok(Self { consumer, _session: session })
    }

    /// The offset from which to read the entry `index` with little before it, found by bisection.
    ///
    /// A recorder that had lost its lease may have repeated older entries after that place: a reader that finds a gap starts
    /// from the beginning.
    pub async fn seek(url: &str, name: &str, index: u64) -> Result<Offset, BrokerError> {
        // A batch begins no later than the entry at `low`, and after it at `high`.
        let Some((mut low, first)) = Self::first_of(url, name, Offset::First).await? else {
            return Ok(Offset::First);
        };
        let Some((mut high, last)) = Self::first_of(url, name, Offset::Last).await? else {
            return Ok(Offset::First);
        };
        if first >= index {
            return Ok(Offset::First);
        }
        if last <= index {
            return Ok(Offset::At(high));
        }
        while high.saturating_sub(low) > u64::from(PREFETCH) {
            let middle = low + (high - low) / 2;
            match Self::first_of(url, name, Offset::At(middle)).await? {
                Some((offset, first)) if first <= index && offset < high => low = offset,
                _ => high = middle,
            }
        }
        Ok(Offset::At(low))
    }

    /// The first batch with an event at or after `from`: its offset, and the index of that event.
    async fn first_of(url: &str, name: &str, from: Offset) -> Result<Option<(u64, u64)>, BrokerError> {
        let mut reader = Self::open(url, name, from).await?;
        while let Some(batch) = reader.next(SEEK_LIMIT).await? {
            if let Some(event) = batch.events()?.first() {
                return Ok(Some((batch.offset, event.index().map_err(unreadable)?)));
            }
        }
        Ok(None)
    }

    /// The next message, if one comes within `limit`.
    pub async fn next(&mut self, limit: Duration) -> Result<Option<Batch>, BrokerError> {
        let Ok(next) = tokio::time::timeout(limit, self.consumer.next()).await else { return Ok(None) };
        let doing = || format!("reading {AUDIT_STREAM:?}");
        let failed = |source| BrokerError::Amqp { doing: doing(), source };
        let delivery =
            next.ok_or_else(|| BrokerError::ConsumerEnded(AUDIT_STREAM.into()))?.map_err(failed)?;
        // An ack removes nothing from a stream: it requests more.
        if !within(REQUEST_LIMIT, doing, delivery.ack(BasicAckOptions::default())).await? {
            return Err(BrokerError::AckLost);
        }
        let headers = delivery.properties.headers().as_ref();
        let offset = match headers.and_then(|headers| headers.inner().get("x-stream-offset")) {
            Some(AMQPValue::LongLongInt(offset)) => u64::try_from(*offset).unwrap_or_default(),
            _ => return Err(unreadable("a message has no offset: this is not a stream")),
        };
        let message_id = delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
        Ok(Some(Batch { offset, message_id: message_id.unwrap_or_default(), body: delivery.data }))
    }
}

/// Feeds the audit stream, one message at a time: a message that is refused must not be followed by a later one.
pub struct Feed {
    publisher: Publisher,
    url: String,
    name: String,
}

impl Feed {
    /// Connects as `name`.
    pub async fn connect(url: &str, name: &str) -> Result<Self, BrokerError> {
        Ok(Self { publisher: Publisher::connect(url, name).await?, url: url.into(), name: name.into() })
    }

    /// Publishes events in one message. Returns when the broker has confirmed it.
    pub async fn publish(&self, events: &[Vec<u8>]) -> Result<(), BrokerError> {
        self.send(events, Outgoing::fresh_id().to_string()).await
    }

    async fn send(&self, events: &[Vec<u8>], message_id: String) -> Result<(), BrokerError> {
        let mut body = vec![b'['];
        body.extend(events.join(b",".as_slice()));
        body.push(b']');
        let message =
            Outgoing { exchange: AUDIT_STREAM.into(), routing_key: "evidence".into(), message_id, body };
        self.publisher.publish_as(BATCH_CONTENT_TYPE, &[message]).await
    }

    /// The last event that the stream holds now, as index and entry, whatever was confirmed before.
    pub async fn last(&self) -> Result<Option<(u64, Vec<u8>)>, BrokerError> {
        let marker = Outgoing::fresh_id().to_string();
        let mut reader = StreamReader::open(&self.url, &self.name, Offset::Last).await?;
        self.send(&[], marker.clone()).await?;
        let (mut back, mut earliest) = (STEP_BACK, u64::MAX);
        loop {
            let (mut first, mut last) = (None, None);
            loop {
                let Some(batch) = reader.next(REQUEST_LIMIT).await? else {
                    return Err(unreadable(format!("its end was not reached within {REQUEST_LIMIT:?}")));
                };
                first.get_or_insert(batch.offset);
                if batch.message_id == marker {
                    break;
                }
                if let Some(event) = batch.events()?.last() {
                    last = Some((event.index().map_err(unreadable)?, event.data.get().as_bytes().to_vec()));
                }
            }
            // Only markers of earlier recorders may precede it.
            match (last, first) {
                (None, Some(first)) if first > 0 && first < earliest => {
                    earliest = first;
                    let from = Offset::At(first.saturating_sub(back));
                    reader = StreamReader::open(&self.url, &self.name, from).await?;
                    back = back.saturating_mul(4);
                }
                (last, _) => return Ok(last),
            }
        }
    }
}
