//! The tool registry: what an action may do, and how it is done.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jsonschema::Validator;
use serde_json::{Map, Value};

use super::expr::{self, Expression};

/// How many complaints about arguments are told.
const MAX_COMPLAINTS: usize = 3;
/// The most characters of one complaint: it may quote the arguments.
const MAX_COMPLAINT_CHARS: usize = 300;

/// All tools, and where their calls may go.
#[derive(Debug)]
pub struct ToolRegistry {
    pub(super) tools: BTreeMap<String, Tool>,
    pub(super) egress: Egress,
}

/// Where calls may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// The hosts that `http` tools may call.
    pub allow_hosts: Vec<String>,
    /// Those of them that may resolve to loopback or private addresses.
    pub allow_private: Vec<String>,
}

/// How a tool is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connector {
    /// A POST.
    Http(HttpConnector),
    /// A request to a tool service's queue.
    Amqp(AmqpConnector),
}

/// A POST with the arguments as its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConnector {
    /// Where to.
    pub url: String,
    /// The environment variable with the secret that signs the request.
    pub signing_secret_env: Option<String>,
    /// Headers, each with the environment variable that holds its value.
    pub headers_env: BTreeMap<String, String>,
}

/// A persistent message with the arguments as its body and the idempotency key as its `message_id`, answered to its `reply_to`
/// with its `correlation_id`: `{"status":"succeeded","result":..}`, or `{"status":"failed","code":..,"message":..}` where
/// nothing was done. It waits in the queue no longer than the attempt takes; a queue that dead-letters what has expired keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpConnector {
    /// The exchange; empty for the default one.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
}

/// How a tool's effect is undone.
#[derive(Debug)]
pub struct Reversible {
    pub(super) by: String,
    pub(super) within: Duration,
    pub(super) arguments: BTreeMap<String, Expression>,
}

impl Reversible {
    /// The tool that undoes the effect.
    pub fn by(&self) -> &str {
        &self.by
    }

    /// How long after the effect it can be undone.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// The arguments of the compensating action, from the action and the result of the tool.
    ///
    /// # Errors
    /// Which argument could not be made, and why.
    pub fn arguments(&self, action: &Value, result: &Value) -> Result<Value, String> {
        let mut bindings = expr::bindings()?;
        expr::bind_whole(&mut bindings, "action", action)?;
        expr::bind_whole(&mut bindings, "result", result)?;
        let mut arguments = Map::new();
        for (name, expression) in &self.arguments {
            let value = expression.to_json(&bindings).map_err(|error| format!("argument {name}: {error}"))?;
            arguments.insert(name.clone(), value);
        }
        Ok(Value::Object(arguments))
    }
}

/// A registered tool.
pub struct Tool {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) version: String,
    pub(super) connector: Connector,
    pub(super) schema: Value,
    pub(super) validator: Validator,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    pub(super) backoff: Duration,
    pub(super) idempotent: bool,
    pub(super) risk: String,
    pub(super) reversible: Option<Reversible>,
    pub(super) facts: Value,
}

impl ToolRegistry {
    /// The tool of this name.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name)
    }

    /// All tools, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values()
    }

    /// Where calls may go.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }
}

impl Tool {
    /// The name that actions use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the tool does, for humans.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// `sha256:` and the first 16 hex digits of the digest of the definition's canonical form.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How the tool is called.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Where a call goes, as a permit names it: `POST <url>` or `amqp:<exchange>/<routing key>`.
    pub fn endpoint(&self) -> String {
        match &self.connector {
            Connector::Http(http) => format!("POST {}", http.url),
            Connector::Amqp(amqp) => format!("amqp:{}/{}", amqp.exchange, amqp.routing_key),
        }
    }

    /// The JSON Schema of the arguments.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// How long one attempt may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How many attempts are made; one unless the tool is idempotent.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The longest pause before the second attempt; it doubles with each further one.
    pub fn backoff(&self) -> Duration {
        self.backoff
    }

    /// The longest pause before an attempt, counted from 1. Jitter may shorten it.
    pub fn pause_before(&self, attempt: u32) -> Duration {
        pause_before(self.backoff, attempt)
    }

    /// The longest that all attempts and pauses can take together.
    pub fn budget(&self) -> Duration {
        budget(self.timeout, self.attempts, self.backoff)
    }

    /// Whether the tool honours an idempotency key, so that an interrupted attempt may be repeated.
    pub fn idempotent(&self) -> bool {
        self.idempotent
    }

    /// `low`, `moderate` or `high`.
    pub fn risk(&self) -> &str {
        &self.risk
    }

    /// How the effect is undone, if it can be.
    pub fn reversible(&self) -> Option<&Reversible> {
        self.reversible.as_ref()
    }

    /// The tool as conditions see it.
    pub fn facts(&self) -> &Value {
        &self.facts
    }

    /// Checks arguments against the schema.
    ///
    /// # Errors
    /// The first few complaints, each with the place in the arguments.
    pub fn check_arguments(&self, arguments: &Value) -> Result<(), String> {
        if self.validator.is_valid(arguments) {
            return Ok(());
        }
        let complaints = self.validator.iter_errors(arguments).take(MAX_COMPLAINTS).map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "arguments".to_owned() } else { format!("arguments{place}") };
            format!("{place}: {error}").chars().take(MAX_COMPLAINT_CHARS).collect::<String>()
        });
        Err(complaints.collect::<Vec<_>>().join("; "))
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

pub(super) fn pause_before(backoff: Duration, attempt: u32) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        _ => backoff.saturating_mul(1_u32.checked_shl(attempt - 2).unwrap_or(u32::MAX)),
    }
}

pub(super) fn budget(timeout: Duration, attempts: u32, backoff: Duration) -> Duration {
    (1..=attempts).fold(timeout.saturating_mul(attempts), |sum, attempt| {
        sum.saturating_add(pause_before(backoff, attempt))
    })
}
