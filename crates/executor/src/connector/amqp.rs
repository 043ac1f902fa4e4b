//! The `amqp` connector: request/reply with a tool service's queue.

use async_trait::async_trait;
use countersign_broker::rpc::{RpcClient, RpcError, RpcRequest};
use countersign_core::config::AmqpConnector;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{Attempt, Call, Connector};

/// The executor's one connection for calls over AMQP, opened when it is first needed and again after a failure.
pub(super) struct Link {
    url: String,
    client: Mutex<Option<RpcClient>>,
}

impl Link {
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.into(), client: Mutex::new(None) }
    }

    async fn call(&self, request: RpcRequest) -> Result<Vec<u8>, RpcError> {
        let client = {
            let mut client = self.client.lock().await;
            match client.as_ref().filter(|client| client.is_alive()) {
                Some(client) => client.clone(),
                None => client.insert(RpcClient::connect(&self.url).await?).clone(),
            }
        };
        client.call(request).await
    }
}

/// Calls one tool service.
pub(super) struct Amqp {
    exchange: String,
    routing_key: String,
    link: std::sync::Arc<Link>,
}

impl Amqp {
    pub(super) fn new(definition: &AmqpConnector, link: std::sync::Arc<Link>) -> Self {
        Self { exchange: definition.exchange.clone(), routing_key: definition.routing_key.clone(), link }
    }
}

/// What a tool service replies.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Reply {
    Succeeded {
        #[serde(default)]
        result: Value,
    },
    Failed {
        code: String,
        #[serde(default)]
        message: String,
    },
}

#[async_trait]
impl Connector for Amqp {
    async fn call(&self, call: &Call<'_>) -> Attempt {
        let request = RpcRequest {
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            message_id: call.idempotency_key.into(),
            body: call.arguments.to_vec(),
        };
        match self.link.call(request).await {
            Ok(body) => match serde_json::from_slice(&body) {
                Ok(Reply::Succeeded { result }) => Attempt::Succeeded(result),
                Ok(Reply::Failed { code, message }) => Attempt::Failed { code, message },
                Err(error) => {
                    Attempt::Unknown { code: "reply_unreadable".into(), message: error.to_string() }
                }
            },
            Err(RpcError::NotSent(message)) => Attempt::NotSent { code: "unreachable".into(), message },
            Err(RpcError::Unknown(message)) => Attempt::Unknown { code: "connection_lost".into(), message },
        }
    }
}
