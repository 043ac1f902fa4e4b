//! Attacks on a running gate. `docs/src/explanation/attacks.md` says which test stands against which.

mod access;
mod decisions;
mod input;
mod permits;
mod secrets;

use anyhow::{Context as _, ensure};
use countersign_testkit::wait::eventually;
use countersign_tests::LIMIT;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, options::BasicPublishOptions};

/// A connection of somebody who keeps to no contract.
async fn connect(url: &str) -> anyhow::Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

/// Publishes and waits for the confirm. Refused, the channel is closed.
async fn publish(
    channel: &Channel,
    (exchange, key): (&str, &str),
    properties: BasicProperties,
    body: &[u8],
) -> anyhow::Result<()> {
    channel.confirm_select(Default::default()).await?;
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?;
    ensure!(confirm.await?.is_ack(), "it was not confirmed");
    Ok(())
}

/// Waits until what is looked for is there.
async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    eventually(what, LIMIT, look).await.context("waiting")
}
