//! Declares the topology. Declaring something that exists already changes nothing.

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value};

use crate::{BrokerError, error::within, topology::Topology};

const LIMIT: Duration = Duration::from_secs(30);

/// Declares every exchange, then every queue with its binding, in order.
pub async fn declare(channel: &Channel, topology: &Topology) -> Result<(), BrokerError> {
    for exchange in &topology.exchanges {
        let kind = ExchangeKind::Custom(exchange.kind.into());
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let doing = || format!("declaring exchange {:?}", exchange.name);
        let declare = channel.exchange_declare(
            exchange.name.as_str().into(),
            kind,
            options,
            table(&exchange.arguments),
        );
        within(LIMIT, doing, declare).await?;
    }
    for queue in &topology.queues {
        let doing = || format!("declaring queue {:?}", queue.name);
        let declare = channel.queue_declare(
            queue.name.as_str().into(),
            QueueDeclareOptions { durable: true, ..Default::default() },
            table(&queue.arguments),
        );
        within(LIMIT, doing, declare).await?;
        let (exchange, key) = &queue.binding;
        let bind = channel.queue_bind(
            queue.name.as_str().into(),
            exchange.as_str().into(),
            key.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        within(LIMIT, || format!("binding queue {:?} to {exchange:?}", queue.name), bind).await?;
    }
    Ok(())
}

fn table(arguments: &Map<String, Value>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        let value = match value {
            Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().unwrap_or(i64::MAX)),
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            other => AMQPValue::LongString(other.to_string().into()),
        };
        table.insert(key.as_str().into(), value);
    }
    table
}
