//! What every connector implements, and what it is given.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use countersign_core::attempt::Attempt;

/// One call, the same in every attempt.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The tool's name.
    pub tool: &'a str,
    /// Its arguments in canonical JSON: what was approved, byte for byte.
    pub arguments: &'a [u8],
    /// The same for every attempt of the same action.
    pub idempotency_key: &'a str,
    /// The proposal's `source` and `id`.
    pub action: (&'a str, &'a str),
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// How long to wait for the answer to an attempt.
    pub timeout: Duration,
}

/// Calls one tool.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Makes one attempt. The caller bounds it in time; being dropped means that the answer is unknown.
    async fn call(&self, call: &Call<'_>) -> Attempt;
}

/// Why no connector can be built for a tool.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// An environment variable with a secret or header is not set.
    #[error("the environment variable {0} is not set for the executor")]
    Environment(String),
    /// A secret is not in the form that Standard Webhooks requires.
    #[error("{0} must be a Standard Webhooks secret: whsec_ and base64")]
    Secret(String),
    /// The egress limits forbid the URL.
    #[error("the URL {url:?} is refused: {reason}")]
    Refused {
        /// The tool's URL.
        url: String,
        /// Why it is refused.
        reason: String,
    },
    /// The HTTP client could not be built.
    #[error("the HTTP client cannot be built: {0}")]
    Client(String),
}

/// Receives an answer that came after its attempt had been given up: the idempotency key and the answer.
pub type Late = Arc<dyn Fn(&str, Attempt) + Send + Sync>;
