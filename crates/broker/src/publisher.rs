//! Publishing with confirms, from one task that owns its channel.

use std::{borrow::Cow, time::Duration};

use countersign_core::message::{CONTENT_TYPE, CloudEvent};
use futures_util::{
    FutureExt as _,
    future::{join_all, maybe_done},
};
use lapin::{
    BasicProperties, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    BrokerError, crash,
    error::within,
    session::{REQUEST_LIMIT, Session, user_of},
};

/// The content type of several events in one message.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// How long a window of publishes may take to be confirmed: the loss of a quorum queue's leader alone can
/// stall one for many seconds.
const CONFIRM_LIMIT: Duration = Duration::from_secs(60);

/// The most messages that are queued in a connection before the first of them is written.
const AHEAD: usize = 64;

/// A message to be published, persistent and mandatory.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where to.
    pub exchange: Cow<'static, str>,
    /// With which key.
    pub routing_key: String,
    /// The event's id.
    pub message_id: String,
    /// The event.
    pub body: Vec<u8>,
}

impl Outgoing {
    /// An event from one of our roles. `id` is the event's and the message's.
    pub fn event<T: Serialize>(
        exchange: impl Into<Cow<'static, str>>,
        routing_key: impl Into<String>,
        event: &CloudEvent<T>,
    ) -> Self {
        Self {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            message_id: event.id.clone(),
            // Our own types have string keys and finite numbers, so they always serialise.
            body: serde_json::to_vec(event).unwrap_or_default(),
        }
    }

    /// A new id for an event whose repetitions need not have the same id.
    pub fn fresh_id() -> Uuid {
        Uuid::now_v7()
    }
}

/// A confirming channel and the user it publishes as.
pub struct Publisher {
    session: Session,
    user: Option<String>,
    /// Which part of its process publishes, as crash points name it.
    name: String,
}

impl Publisher {
    /// Connects as `name`, like `process:part` or `process:part#1`. Every message will carry the URL's user as its `user_id`,
    /// validated by the broker.
    pub async fn connect(url: &str, name: &str) -> Result<Self, BrokerError> {
        let session = Session::open_publishing(url, name).await?;
        let part = name.split([':', '#']).nth(1).unwrap_or(name).to_owned();
        Ok(Self { session, user: user_of(url), name: part })
    }

    /// Publishes all, pipelined, and returns when the broker has confirmed each. Any other answer fails the
    /// whole window: returns cannot be attributed to their publishes reliably.
    pub async fn publish(&self, messages: &[Outgoing]) -> Result<(), BrokerError> {
        self.publish_as(CONTENT_TYPE, messages).await
    }

    /// The same with messages of another content type.
    pub async fn publish_as(
        &self,
        content_type: &'static str,
        messages: &[Outgoing],
    ) -> Result<(), BrokerError> {
        // lapin panics where a name is too long.
        for name in messages.iter().flat_map(|message| [&*message.exchange, &message.routing_key]) {
            ShortString::try_new(name).map_err(|_| BrokerError::TooLong {
                bytes: name.len(),
                start: name.chars().take(40).collect(),
            })?;
        }
        let mut confirms = Vec::with_capacity(messages.len());
        for messages in messages.chunks(AHEAD) {
            let first = messages.first().map(|message| message.exchange.as_ref()).unwrap_or_default();
            let doing = || format!("publishing {} messages, the first to {first:?}", messages.len());
            confirms.extend(within(CONFIRM_LIMIT, doing, self.send(content_type, messages)).await?);
        }
        if !messages.is_empty() {
            crash::point(&self.name, "sent");
        }
        let doing = || format!("waiting for {} confirms", messages.len());
        let answers = within(CONFIRM_LIMIT, doing, async { Ok(join_all(confirms).await) }).await?;
        for (answer, message) in answers.into_iter().zip(messages) {
            let exchange = || message.exchange.to_string();
            let why = match answer {
                Ok(Confirmation::Ack(None)) => continue,
                Ok(Confirmation::Ack(Some(_))) => "it was returned as unroutable",
                Ok(Confirmation::Nack(_)) => "it was refused (is a queue full?)",
                Ok(Confirmation::NotRequested) => "confirms are off",
                Err(source) => {
                    return Err(BrokerError::Amqp {
                        doing: format!("publishing to {:?}", exchange()),
                        source,
                    });
                }
            };
            return Err(BrokerError::Unconfirmed { exchange: exchange(), why });
        }
        Ok(())
    }

    /// Hands all messages to the connection at once and waits until they are written: waiting for each would cost two thread
    /// switches a message. Returns the pending confirms.
    async fn send(
        &self,
        content_type: &'static str,
        messages: &[Outgoing],
    ) -> Result<Vec<PublisherConfirm>, lapin::Error> {
        let mut publishes = Vec::with_capacity(messages.len());
        for message in messages {
            let mut publish = Box::pin(maybe_done(self.session.channel.basic_publish(
                message.exchange.as_ref().into(),
                message.routing_key.as_str().into(),
                BasicPublishOptions { mandatory: true, ..Default::default() },
                &message.body,
                self.properties(content_type, message),
            )));
            // The first poll queues its frames: they are written in this order.
            let _ = publish.as_mut().now_or_never();
            publishes.push(publish);
        }
        let mut confirms = Vec::with_capacity(publishes.len());
        for mut publish in publishes {
            publish.as_mut().await;
            confirms.extend(publish.as_mut().take_output().transpose()?);
        }
        Ok(confirms)
    }

    /// The number of messages that are ready in a queue.
    pub async fn depth(&self, queue: &str) -> Result<u32, BrokerError> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declare = self.session.channel.queue_declare(queue.into(), options, FieldTable::default());
        Ok(within(REQUEST_LIMIT, || format!("asking for {queue:?}"), declare).await?.message_count())
    }

    fn properties(&self, content_type: &str, message: &Outgoing) -> BasicProperties {
        let mut properties =
            BasicProperties::default().with_content_type(content_type.into()).with_delivery_mode(2);
        // A longer id is in the body alone.
        if let Ok(id) = ShortString::try_new(message.message_id.as_str()) {
            properties = properties.with_message_id(id);
        }
        match &self.user {
            Some(user) => properties.with_user_id(user.as_str().into()),
            None => properties,
        }
    }
}
