//! The tool registry: the tools that actions may use.

use std::{collections::BTreeMap, fmt, time::Duration};

use jsonschema::Validator;
use serde_json::{Map, Value};

use crate::{
    connector::{Connector, Egress},
    expr::{self, Expression},
};

/// How many errors about arguments are reported.
const MAX_ERRORS: usize = 3;
/// The longest reported error, in characters: it may quote the arguments.
const MAX_ERROR_CHARS: usize = 300;

/// All tools, and the hosts that their calls may reach.
#[derive(Debug)]
pub struct ToolRegistry {
    pub(crate) tools: BTreeMap<String, Tool>,
    pub(crate) egress: Egress,
}

/// How the effect of a tool is undone.
#[derive(Debug)]
pub struct Reversible {
    pub(crate) by: String,
    pub(crate) within: Duration,
    pub(crate) arguments: BTreeMap<String, Expression>,
}

impl Reversible {
    /// The tool that undoes the effect.
    pub fn by(&self) -> &str {
        &self.by
    }

    /// How long after its completion the effect can be undone.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// The arguments of the compensating action, from the action and the result of the tool.
    ///
    /// # Errors
    /// Which argument could not be computed, and why.
    pub fn arguments(&self, action: &Value, result: &Value) -> Result<Value, String> {
        let mut bindings = expr::bindings()?;
        for (name, value) in [("action", action), ("result", result)] {
            if self.arguments.values().any(|expression| expression.roots().contains(&name)) {
                expr::bind_whole(&mut bindings, name, value)?;
            }
        }
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
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) version: String,
    pub(crate) connector: Connector,
    pub(crate) schema: Value,
    pub(crate) validator: Validator,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) backoff: Duration,
    pub(crate) idempotent: bool,
    pub(crate) risk: String,
    pub(crate) reversible: Option<Reversible>,
    pub(crate) facts: Value,
}

impl ToolRegistry {
    /// The tool with this name.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name)
    }

    /// All tools, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values()
    }

    /// The hosts that calls may reach.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }
}

impl Tool {
    /// The name that actions use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the tool does, for people.
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

    /// The endpoint of a call, as permits name it: `POST <url>` or `amqp:<exchange>/<routing key>`.
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

    /// The highest number of attempts; 1 unless the tool is idempotent.
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

    /// The longest time that all attempts and pauses can take together.
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

    /// How the effect is undone; `None` if it cannot be.
    pub fn reversible(&self) -> Option<&Reversible> {
        self.reversible.as_ref()
    }

    /// The object `tool` in expressions.
    pub fn facts(&self) -> &Value {
        &self.facts
    }

    /// Checks arguments against the schema.
    ///
    /// # Errors
    /// The first few errors, each with its place in the arguments.
    pub fn check_arguments(&self, arguments: &Value) -> Result<(), String> {
        if self.validator.is_valid(arguments) {
            return Ok(());
        }
        let errors = self.validator.iter_errors(arguments).take(MAX_ERRORS).map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "arguments".to_owned() } else { format!("arguments{place}") };
            format!("{place}: {error}").chars().take(MAX_ERROR_CHARS).collect::<String>()
        });
        Err(errors.collect::<Vec<_>>().join("; "))
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

pub(crate) fn pause_before(backoff: Duration, attempt: u32) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        _ => backoff.saturating_mul(1_u32.checked_shl(attempt - 2).unwrap_or(u32::MAX)),
    }
}

pub(crate) fn budget(timeout: Duration, attempts: u32, backoff: Duration) -> Duration {
    (1..=attempts).fold(timeout.saturating_mul(attempts), |sum, attempt| {
        sum.saturating_add(pause_before(backoff, attempt))
    })
}
