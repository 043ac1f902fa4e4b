//! The lane: take a batch, commit, publish, ack.

mod handler;
mod inbox;
mod isolation;
mod settings;
mod source;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub use self::{
    handler::{Delivery, Failure, Handler},
    settings::{LaneSettings, Queues},
};
use self::{
    inbox::{Inbox, Tag},
    isolation::Suspects,
};
use crate::{BrokerError, crash, properties, publisher::Publisher};

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
    let mut inbox = Inbox::open(name, settings).await?;
    tracing::debug!(lane = name, "lane consumes");
    loop {
        let taken = tokio::select! {
            taken = inbox.batch() => taken?,
            () = stop.cancelled() => return Ok(inbox.ack_except(&[]).await?),
        };
        let (tags, batch): (Vec<Tag>, Vec<Delivery>) =
            taken.into_iter().map(|(tag, delivery)| (tag, convert(delivery))).unzip();
        tokio::select! {
            () = handler.admit(&batch) => {}
            () = stop.cancelled() => return Ok(inbox.ack_except(&tags).await?),
        }
        if cfg!(feature = "broken-ack-first") {
            inbox.ack().await?;
        }
        let input = settings.input.as_str();
        crash::point(input, "taken");
        let applied = isolation::apply(handler, &batch, settings.handle_limit, suspects);
        let applied = crash::each_wait(input, "handling", applied).await?;
        crash::point(input, "committed");
        publisher.publish(&applied.outgoing).await?;
        crash::point(input, "confirmed");
        if !applied.unhandled.is_empty() {
            let unhandled: Vec<Tag> =
                applied.unhandled.iter().filter_map(|index| tags.get(*index)).copied().collect();
            inbox.ack_except(&unhandled).await?;
            return Err(LaneError::Handler(applied.why));
        }
        if !cfg!(feature = "broken-ack-first") {
            inbox.ack().await?;
        }
        crash::point(input, "acked");
        for (queue, pause) in handler.pauses() {
            inbox.pause(&queue, pause);
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
