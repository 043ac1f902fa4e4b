//! The lane: take a batch, commit, publish, ack.

mod handler;
mod isolation;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Acker, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::handler::{Delivery, Failure, Handler};
use self::isolation::Suspects;
use crate::{
    BrokerError, crash,
    error::within,
    properties,
    publisher::Publisher,
    session::{REQUEST_LIMIT, Session},
};

/// Where a lane takes its messages from and how many at a time.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// The broker.
    pub url: String,
    /// The queue.
    pub queue: String,
    /// Most deliveries in one transaction.
    pub batch_max: u16,
    /// How long to wait for further deliveries after the first. Zero takes what has already arrived; a lane that is behind
    /// waits at least a millisecond.
    pub linger: Duration,
    /// How long a batch's transaction may take.
    pub handle_limit: Duration,
}

/// Runs a lane until `stop`, through every failure of broker and database.
pub async fn run<H: Handler>(
    name: Arc<str>,
    settings: LaneSettings,
    mut handler: H,
    stop: CancellationToken,
) {
    let mut suspects = Suspects::default();
    while !stop.is_cancelled() {
        let outcome = tokio::select! {
            outcome = cycle(&name, &settings, &mut handler, &mut suspects, &stop) => outcome,
            // A batch in flight is dropped: it was not acked, so the broker delivers it again.
            () = stop_after_grace(&stop, settings.handle_limit) => return,
        };
        match outcome {
            Ok(()) => return,
            Err(error) => tracing::warn!(lane = %name, %error, "lane restarts"),
        }
        let pause = Duration::from_millis(rand::random_range(500..2_000));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn stop_after_grace(stop: &CancellationToken, grace: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// A lane's error, for the log.
#[derive(Debug, thiserror::Error)]
enum LaneError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("{0}")]
    Handler(String),
}

impl From<Failure> for LaneError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry(why)
            | Failure::Refused(why)
            | Failure::Unanswered(why)
            | Failure::Unavailable(why) => Self::Handler(why),
        }
    }
}

/// Runs until the connections fail. `Ok` means that the lane was asked to stop.
async fn cycle<H: Handler>(
    name: &str,
    settings: &LaneSettings,
    handler: &mut H,
    suspects: &mut Suspects,
    stop: &CancellationToken,
) -> Result<(), LaneError> {
    handler.ready().await?;
    let publisher = Publisher::connect(&settings.url, name).await?;
    let session = Session::open(&settings.url, name).await?;
    let mut consumer = consume(&session, settings).await?;
    tracing::debug!(lane = name, queue = settings.queue, "lane consumes");
    loop {
        let deliveries = tokio::select! {
            deliveries = batch(&mut consumer, settings) => deliveries?,
            () = stop.cancelled() => return Ok(()),
        };
        let ackers: Vec<Acker> = deliveries.iter().map(|delivery| delivery.acker.clone()).collect();
        let batch: Vec<Delivery> = deliveries.into_iter().map(convert).collect();
        tokio::select! {
            () = handler.admit(&batch) => {}
            () = stop.cancelled() => return Ok(()),
        }
        if cfg!(feature = "broken-ack-first") {
            ack(&ackers).await?;
        }
        crash::point(&settings.queue, "taken");
        let applied = isolation::apply(handler, &batch, settings.handle_limit, suspects);
        let applied = crash::each_wait(&settings.queue, "handling", applied).await?;
        crash::point(&settings.queue, "committed");
        publisher.publish(&applied.outgoing).await?;
        crash::point(&settings.queue, "confirmed");
        if !applied.unhandled.is_empty() {
            ack_except(&ackers, &applied.unhandled).await?;
            return Err(LaneError::Handler(applied.why));
        }
        if !cfg!(feature = "broken-ack-first") {
            ack(&ackers).await?;
        }
        crash::point(&settings.queue, "acked");
    }
}

/// Acks a batch: the broker forgets it, so it must be stored and what follows confirmed.
async fn ack(batch: &[Acker]) -> Result<(), BrokerError> {
    let Some(last) = batch.last() else { return Ok(()) };
    ack_with(last, BasicAckOptions { multiple: true }).await
}

/// Acks a batch but for some messages, which the broker delivers again when the connection ends.
async fn ack_except(batch: &[Acker], unhandled: &[usize]) -> Result<(), BrokerError> {
    for (index, acker) in batch.iter().enumerate() {
        if !unhandled.contains(&index) {
            ack_with(acker, BasicAckOptions::default()).await?;
        }
    }
    Ok(())
}

async fn ack_with(acker: &Acker, options: BasicAckOptions) -> Result<(), BrokerError> {
    match within(REQUEST_LIMIT, || "acking a batch".into(), acker.ack(options)).await? {
        true => Ok(()),
        false => Err(BrokerError::AckLost),
    }
}

async fn consume(session: &Session, settings: &LaneSettings) -> Result<Consumer, BrokerError> {
    let prefetch = settings.batch_max.saturating_mul(2);
    let qos = session.channel.basic_qos(prefetch, BasicQosOptions::default());
    within(REQUEST_LIMIT, || "setting the prefetch".into(), qos).await?;
    let consume = session.channel.basic_consume(
        settings.queue.as_str().into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    within(REQUEST_LIMIT, || format!("consuming {:?}", settings.queue), consume).await
}

/// The least linger of a lane that finds deliveries waiting: it is behind, and larger batches let it catch up.
const BEHIND: Duration = Duration::from_millis(1);

/// Waits for a first delivery, then takes what comes within the linger, up to the most for a batch.
async fn batch(
    consumer: &mut Consumer,
    settings: &LaneSettings,
) -> Result<Vec<lapin::message::Delivery>, BrokerError> {
    let ended = || BrokerError::ConsumerEnded(settings.queue.clone());
    let doing = || format!("consuming {:?}", settings.queue);
    let mut deliveries = Vec::new();
    let (mut next, linger) = match consumer.next().now_or_never() {
        Some(waiting) => (waiting, settings.linger.max(BEHIND)),
        None => (consumer.next().await, settings.linger),
    };
    let deadline = Instant::now() + linger;
    loop {
        let delivery = next.ok_or_else(ended)?;
        deliveries.push(delivery.map_err(|source| BrokerError::Amqp { doing: doing(), source })?);
        if deliveries.len() >= usize::from(settings.batch_max) {
            return Ok(deliveries);
        }
        let more = match linger.is_zero() {
            // A timer would wait for its next tick.
            true => consumer.next().now_or_never(),
            false => timeout_at(deadline, consumer.next()).await.ok(),
        };
        match more {
            Some(more) => next = more,
            None => return Ok(deliveries),
        }
    }
}

fn convert(delivery: lapin::message::Delivery) -> Delivery {
    let properties = &delivery.properties;
    Delivery {
        author: properties.user_id().as_ref().map(|user| user.as_str().to_owned()),
        copied: properties::copied(properties),
        unreadable: properties::unreadable(&delivery),
        exchange: delivery.exchange.as_str().to_owned(),
        routing_key: delivery.routing_key.as_str().to_owned(),
        body: delivery.data,
    }
}
