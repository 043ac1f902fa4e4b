//! Request/reply over a queue, with RabbitMQ's direct reply-to.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Confirmation, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions},
    types::FieldTable,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    BrokerError,
    error::within,
    session::{REQUEST_LIMIT, Session, user_of},
};

/// The pseudo-queue of direct reply-to: replies arrive on the channel that sent the request.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// The most requests that are queued for publishing.
const QUEUED_MAX: usize = 1_024;

/// How long a request is remembered after its caller has given up.
const LATE_LIMIT: Duration = Duration::from_secs(3600);

/// Over this many open requests, those that are older than [`LATE_LIMIT`] are forgotten.
const PENDING_MAX: usize = 16 * 1_024;

/// An id that nobody can guess: 128 bits of a cryptographic generator. Everybody who has received one request knows the
/// address of the channel, and whoever also knows a request's id can answer it. So only a service that has received the
/// request can; the id of another request, the action's id and the time tell nothing about it.
fn correlation_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// One request.
#[derive(Clone, Debug)]
pub struct RpcRequest {
    /// The tool service's exchange; empty for a queue's own name as routing key.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// The idempotency key.
    pub message_id: String,
    /// The arguments.
    pub body: Vec<u8>,
    /// Until when the caller waits. The message expires at that time: what is recorded as in doubt must not be executed
    /// afterwards.
    pub deadline: Instant,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The request reached no queue.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The tool service may have received it.
    #[error("no reply: {0}")]
    Unknown(String),
}

impl From<BrokerError> for RpcError {
    fn from(error: BrokerError) -> Self {
        Self::NotSent(error.to_string())
    }
}

/// Receives a reply that came after its caller had given up: the request's `message_id`, and the reply.
pub type Late = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

type Answer = oneshot::Sender<Result<Vec<u8>, RpcError>>;
type QueuedRequest = (RpcRequest, Answer);
type PendingReplies = HashMap<String, Pending>;

/// A request that has no reply yet.
struct Pending {
    message_id: String,
    sent_at: Instant,
    answer: Answer,
}

/// A cheap handle on the one task that owns the channel.
#[derive(Clone)]
pub struct RpcClient {
    requests: mpsc::Sender<QueuedRequest>,
    alive: Arc<AtomicBool>,
}

impl RpcClient {
    /// Connects and waits for replies until the last handle is dropped or the connection fails.
    pub async fn connect(url: &str, late: Late) -> Result<Self, RpcError> {
        let session = Session::open_confirming(url, "countersign-executor:calls").await?;
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consume =
            session.channel.basic_consume(REPLY_TO.into(), "".into(), options, FieldTable::default());
        let replies = within(REQUEST_LIMIT, || "waiting for replies".into(), consume).await?;
        let (requests, queued) = mpsc::channel(QUEUED_MAX);
        let alive = Arc::new(AtomicBool::new(true));
        let channel = Channel { session, user: user_of(url), pending: PendingReplies::new(), late };
        tokio::spawn(channel.serve(replies, queued, alive.clone()));
        Ok(Self { requests, alive })
    }

    /// Whether the connection is open, as far as is known.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Sends a request and waits for the reply. If the caller drops the future, a late reply goes to the [`Late`] given to
    /// [`RpcClient::connect`].
    pub async fn call(&self, request: RpcRequest) -> Result<Vec<u8>, RpcError> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send((request, answer))
            .await
            .map_err(|_| RpcError::NotSent("the connection is gone".into()))?;
        answered.await.unwrap_or_else(|_| Err(RpcError::Unknown("the connection was lost".into())))
    }
}

/// What the one task owns.
struct Channel {
    session: Session,
    user: Option<String>,
    pending: PendingReplies,
    late: Late,
}

impl Channel {
    async fn serve(
        mut self,
        mut replies: Consumer,
        mut queued: mpsc::Receiver<QueuedRequest>,
        alive: Arc<AtomicBool>,
    ) {
        loop {
            tokio::select! {
                reply = replies.next() => match reply {
                    Some(Ok(reply)) => self.answered(&reply),
                    _ => break,
                },
                request = queued.recv() => match request {
                    Some((request, answer)) => {
                        if self.publish(request, answer).await.is_err() {
                            break;
                        }
                    }
                    None => break,
                },
            }
        }
        // The dropped senders notify callers that are still waiting.
        alive.store(false, Ordering::Release);
    }

    fn answered(&mut self, reply: &lapin::message::Delivery) {
        let id = reply.properties.correlation_id().as_ref().map(|id| id.as_str());
        let Some(pending) = id.and_then(|id| self.pending.remove(id)) else {
            tracing::warn!(correlation_id = id, "a reply without a request");
            return;
        };
        if pending.answer.send(Ok(reply.data.clone())).is_err() {
            (self.late)(&pending.message_id, &reply.data);
        }
    }

    /// Publishes one request. A confirm means that a queue has it, a return that none does.
    async fn publish(&mut self, request: RpcRequest, answer: Answer) -> Result<(), BrokerError> {
        if answer.is_closed() {
            // Its caller has given up and recorded the action as in doubt: the request must not be executed after that.
            return Ok(());
        }
        let left = request.deadline.saturating_duration_since(Instant::now());
        let correlation = correlation_id();
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(request.message_id.as_str().into())
            .with_correlation_id(correlation.as_str().into())
            .with_reply_to(REPLY_TO.into())
            .with_expiration(left.as_millis().to_string().into());
        if let Some(user) = &self.user {
            properties = properties.with_user_id(user.as_str().into());
        }
        if self.pending.len() > PENDING_MAX {
            self.pending.retain(|_, pending| pending.sent_at.elapsed() < LATE_LIMIT);
        }
        let pending = Pending { message_id: request.message_id, sent_at: Instant::now(), answer };
        self.pending.insert(correlation.clone(), pending);
        let doing = || format!("calling {:?}", request.routing_key);
        let publish = self.session.channel.basic_publish(
            request.exchange.as_str().into(),
            request.routing_key.as_str().into(),
            BasicPublishOptions { mandatory: true, ..Default::default() },
            &request.body,
            properties,
        );
        let confirm = within(REQUEST_LIMIT, doing, publish).await?;
        // One request at a time is unconfirmed, so a return can only be its own.
        let failed = match within(REQUEST_LIMIT, doing, confirm).await? {
            Confirmation::Ack(None) => return Ok(()),
            Confirmation::Ack(Some(_)) => RpcError::NotSent("no queue is bound for it".into()),
            // One of several queues may have taken it, or one that failed afterwards.
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                RpcError::Unknown("the broker did not confirm it, so a queue may have it or not".into())
            }
        };
        if let Some(pending) = self.pending.remove(&correlation) {
            let _ = pending.answer.send(Err(failed));
        }
        Ok(())
    }
}
