//! How tools are called, and which hosts may be called.

use std::collections::{BTreeMap, BTreeSet};

/// The hosts that calls may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// The hosts that `http` tools may call, in lower case.
    pub allow_hosts: Vec<String>,
    /// The allowed hosts that may resolve to loopback or private addresses.
    pub allow_private: Vec<String>,
}

/// How a tool is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connector {
    /// An HTTP POST.
    Http(HttpConnector),
    /// A request to a tool service's queue.
    Amqp(AmqpConnector),
}

/// An HTTP POST with the arguments as its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConnector {
    /// The URL that is called.
    pub url: String,
    /// The environment variable with the secret that signs the request.
    pub signing_secret_env: Option<String>,
    /// Headers by name, each with the environment variable that holds its value.
    pub headers_env: BTreeMap<String, String>,
    /// The statuses that could mean anything, but with which this tool answers only if it did nothing.
    pub certain_failures: BTreeSet<u16>,
}

/// A persistent AMQP message with the arguments as its body and the idempotency key as its `message_id`.
///
/// The service replies to its `reply_to` with its `correlation_id`: `{"status":"succeeded","result":..}`, or
/// `{"status":"failed","code":..,"message":..}` if it did nothing, or `in_doubt` in place of `failed` if it does not know. The message expires with the attempt; a queue that
/// dead-letters expired messages keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpConnector {
    /// The exchange; empty for the default exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
}
