//! Attacks on a running gate. `docs/src/explanation/attacks.md` lists them with their tests.

mod access;
mod broker;
mod decisions;
mod input;
mod isolation;
mod permits;
mod queues;
mod secrets;

use anyhow::{Context as _, ensure};
use countersign_testkit::wait::eventually;
use countersign_tests::LIMIT;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, options::BasicPublishOptions};

/// A connection of a client that ignores the contract.
async fn connect(url: &str) -> anyhow::Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

/// Publishes and waits for the confirm. On a refusal the broker closes the channel.
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

/// Waits until `look` returns something; `what` names it in the error.
async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    eventually(what, LIMIT, look).await.context("waiting")
}
