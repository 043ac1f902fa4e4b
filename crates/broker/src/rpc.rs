//! Request/reply over a queue, with RabbitMQ's direct reply-to.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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

/// The pseudo-queue of direct reply-to: replies come to the channel that asked.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Most requests that wait to be published.
const WAITING: usize = 1_024;

/// One request.
#[derive(Clone, Debug)]
pub struct RpcRequest {
    /// The tool service's exchange; empty for a queue's own name as routing key.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// The idempotency key.
    pub message_id: String,
    /// What is asked.
    pub body: Vec<u8>,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The request reached no queue.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have been taken in.
    #[error("no reply: {0}")]
    Unknown(String),
}

impl From<BrokerError> for RpcError {
    fn from(error: BrokerError) -> Self {
        Self::NotSent(error.to_string())
    }
}

type Asked = (RpcRequest, oneshot::Sender<Result<Vec<u8>, RpcError>>);
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Result<Vec<u8>, RpcError>>>>>;

/// A cheap handle on the one task that owns the channel.
#[derive(Clone)]
pub struct RpcClient {
    requests: mpsc::Sender<Asked>,
    alive: Arc<AtomicBool>,
}

impl RpcClient {
    /// Connects and waits for replies until the last handle is dropped or the connection fails.
    pub async fn connect(url: &str) -> Result<Self, RpcError> {
        let session = Session::open_confirming(url, "countersign-executor:calls").await?;
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consume =
            session.channel.basic_consume(REPLY_TO.into(), "".into(), options, FieldTable::default());
        let replies = within(REQUEST_LIMIT, || "waiting for replies".into(), consume).await?;
        let (requests, asked) = mpsc::channel(WAITING);
        let alive = Arc::new(AtomicBool::new(true));
        tokio::spawn(serve(session, user_of(url), replies, asked, alive.clone()));
        Ok(Self { requests, alive })
    }

    /// Whether the connection still stands, as far as is known.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Asks and waits for the reply. Dropped by its caller, it leaves nothing behind but a late reply.
    pub async fn call(&self, request: RpcRequest) -> Result<Vec<u8>, RpcError> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send((request, answer))
            .await
            .map_err(|_| RpcError::NotSent("the connection is gone".into()))?;
        answered.await.unwrap_or_else(|_| Err(RpcError::Unknown("the connection was lost".into())))
    }
}

async fn serve(
    session: Session,
    user: Option<String>,
    mut replies: Consumer,
    mut asked: mpsc::Receiver<Asked>,
    alive: Arc<AtomicBool>,
) {
    let waiting = Waiting::default();
    loop {
        tokio::select! {
            reply = replies.next() => match reply {
                Some(Ok(reply)) => {
                    let id = reply.properties.correlation_id().as_ref().map(|id| id.as_str().to_owned());
                    let answer = id.and_then(|id| lock(&waiting).remove(&id));
                    match answer {
                        Some(answer) => drop(answer.send(Ok(reply.data))),
                        None => tracing::warn!("a tool service replied to a call that nobody waits for any more"),
                    }
                }
                _ => break,
            },
            request = asked.recv() => match request {
                Some((request, answer)) => {
                    if publish(&session, user.as_deref(), &waiting, request, answer).await.is_err() {
                        break;
                    }
                }
                None => break,
            },
        }
        lock(&waiting).retain(|_, answer| !answer.is_closed());
    }
    // Whoever still waits is told by the dropped senders.
    alive.store(false, Ordering::Release);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Publishes one request. A confirm says that it has been taken in, a return that no queue wanted it.
async fn publish(
    session: &Session,
    user: Option<&str>,
    waiting: &Waiting,
    request: RpcRequest,
    answer: oneshot::Sender<Result<Vec<u8>, RpcError>>,
) -> Result<(), BrokerError> {
    let correlation = uuid::Uuid::now_v7().to_string();
    let mut properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(request.message_id.as_str().into())
        .with_correlation_id(correlation.as_str().into())
        .with_reply_to(REPLY_TO.into());
    if let Some(user) = user {
        properties = properties.with_user_id(user.into());
    }
    lock(waiting).insert(correlation.clone(), answer);
    let doing = || format!("calling {:?}", request.routing_key);
    let publish = session.channel.basic_publish(
        request.exchange.as_str().into(),
        request.routing_key.as_str().into(),
        BasicPublishOptions { mandatory: true, ..Default::default() },
        &request.body,
        properties,
    );
    let confirm = within(REQUEST_LIMIT, doing, publish).await?;
    // One request at a time is unconfirmed, so a return can only be its own.
    let refused = match within(REQUEST_LIMIT, doing, confirm).await? {
        Confirmation::Ack(None) => return Ok(()),
        Confirmation::Ack(Some(_)) => "no queue takes it",
        Confirmation::Nack(_) | Confirmation::NotRequested => "the broker refused it",
    };
    if let Some(answer) = lock(waiting).remove(&correlation) {
        let _ = answer.send(Err(RpcError::NotSent(refused.into())));
    }
    Ok(())
}
