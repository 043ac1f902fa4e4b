//! The `amqp` connector: request/reply with a tool service's queue.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use countersign_broker::rpc::{RpcClient, RpcError, RpcRequest};
use countersign_core::attempt::Attempt;
use countersign_core::refusal::Code;
use countersign_policy::AmqpConnector;
use tokio::sync::Mutex;

use super::interface::{Call, Connector, Late};

/// The executor's one connection for calls over AMQP, opened when it is first needed and again after a failure.
pub(super) struct Link {
    url: String,
    late: Late,
    client: Mutex<Option<RpcClient>>,
}

impl Link {
    pub(super) fn new(url: &str, late: Late) -> Self {
        Self { url: url.into(), late, client: Mutex::new(None) }
    }

    async fn call(&self, request: RpcRequest) -> Result<Vec<u8>, RpcError> {
        let client = {
            let mut client = self.client.lock().await;
            match client.as_ref().filter(|client| client.is_alive()) {
                Some(client) => client.clone(),
                None => {
                    let late = self.late.clone();
                    let late = Arc::new(move |key: &str, reply: &[u8]| late(key, Attempt::of_amqp(reply)));
                    client.insert(RpcClient::connect(&self.url, late).await?).clone()
                }
            }
        };
        client.call(request).await
    }
}

/// Calls one tool service.
pub(super) struct Amqp {
    exchange: String,
    routing_key: String,
    link: Arc<Link>,
}

impl Amqp {
    pub(super) fn new(definition: &AmqpConnector, link: Arc<Link>) -> Self {
        Self { exchange: definition.exchange.clone(), routing_key: definition.routing_key.clone(), link }
    }
}

#[async_trait]
impl Connector for Amqp {
    async fn call(&self, call: &Call<'_>) -> Attempt {
        let request = RpcRequest {
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            message_id: call.idempotency_key.into(),
            body: call.arguments.to_vec(),
            deadline: Instant::now() + call.timeout,
        };
        match self.link.call(request).await {
            Ok(body) => Attempt::of_amqp(&body),
            Err(RpcError::NotSent(message)) => Attempt::NotSent { code: Code::Unreachable.into(), message },
            Err(RpcError::Unknown(message)) => {
                Attempt::Unknown { code: Code::ConnectionLost.into(), message }
            }
        }
    }
}
