//! The connectors and allowed hosts of `tools.yaml`.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::attempt::{is_from_gateway, is_inconclusive};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{problems::Problems, yaml::line};
use crate::connector::{self, AmqpConnector, HttpConnector};

const MAX_NAME_BYTES: usize = 255;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Egress {
    #[serde(default)]
    allow_hosts: Vec<Spanned<String>>,
    #[serde(default)]
    allow_private: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Connector {
    http: Option<Http>,
    amqp: Option<Amqp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    url: Spanned<String>,
    signing_secret_env: Option<Spanned<String>>,
    #[serde(default)]
    headers_env: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Amqp {
    #[serde(default)]
    exchange: String,
    routing_key: Spanned<String>,
}

impl Egress {
    pub(super) fn into_model(self, problems: &mut Problems) -> connector::Egress {
        connector::Egress {
            allow_hosts: hosts(problems, self.allow_hosts),
            allow_private: hosts(problems, self.allow_private),
        }
    }
}

fn hosts(problems: &mut Problems, listed: Vec<Spanned<String>>) -> Vec<String> {
    let mut hosts = Vec::with_capacity(listed.len());
    for host in listed {
        let normalised = host.value.to_ascii_lowercase();
        if host_of(&format!("http://{}/", host.value)).as_ref() != Some(&normalised) {
            let message = format!("{:?} is not a host", host.value);
            let help = "write a name or an address without scheme and port, such as tools.example.com";
            problems.add(line(&host), message, help);
        }
        hosts.push(normalised);
    }
    hosts
}

impl Connector {
    /// Checks the connector, which begins on line `at`, with the tool's `certain_failures`.
    pub(super) fn into_model(
        self,
        problems: &mut Problems,
        at: u64,
        egress: &connector::Egress,
        certain_failures: &[Spanned<i64>],
    ) -> Option<connector::Connector> {
        match (self.http, self.amqp) {
            (Some(http), None) => {
                let statuses = statuses(problems, certain_failures);
                http.into_model(problems, egress, statuses).map(connector::Connector::Http)
            }
            (None, Some(amqp)) => {
                if let Some(first) = certain_failures.first() {
                    let message = "certain_failures lists HTTP statuses, but the tool is called over a queue";
                    let help = "remove it: the service replies failed if it did nothing, else in_doubt";
                    problems.add(line(first), message, help);
                }
                Some(connector::Connector::Amqp(amqp.into_model(problems, at)))
            }
            _ => {
                let help = "write either http: {url: ..} or amqp: {routing_key: ..}";
                problems.add(at, "the tool does not have exactly one connector", help);
                None
            }
        }
    }
}

/// The statuses of `certain_failures`: those that leave the effect open unless the tool's definition vouches for it.
fn statuses(problems: &mut Problems, listed: &[Spanned<i64>]) -> BTreeSet<u16> {
    let mut statuses = BTreeSet::new();
    for entry in listed {
        let status = u16::try_from(entry.value).unwrap_or_default();
        let (message, help) = match status {
            300..600 if is_from_gateway(status) => (
                "is a gateway's: it has asked the tool, and does not know what that did",
                "remove it, and have the tool itself answer with another status, such as 503",
            ),
            300..600 if !is_inconclusive(status) => (
                "is a certain failure of every tool",
                "remove it: list only 3xx, 408, 499 and 5xx, and only where the tool certainly did nothing",
            ),
            300..600 if statuses.insert(status) => continue,
            300..600 => ("is listed twice", "list it once"),
            _ => ("is no status of a failure", "list statuses of 3xx, 408, 499 and 5xx"),
        };
        problems.add(line(entry), format!("{} in certain_failures {message}", entry.value), help);
    }
    statuses
}

impl Amqp {
    fn into_model(self, problems: &mut Problems, at: u64) -> AmqpConnector {
        let (exchange, routing_key) = (self.exchange, &self.routing_key.value);
        if exchange.starts_with("countersign.") || exchange.starts_with("amq.") {
            let message = format!("the exchange {exchange:?} is reserved");
            let help = "use an exchange whose name begins neither with countersign. nor with amq.";
            problems.add(at, message, help);
        }
        // On the default exchange the routing key is the name of a queue. No tool may write to Countersign's own queues.
        if exchange.is_empty() && routing_key.starts_with("countersign.") {
            let message = format!("the queue {routing_key:?} is reserved");
            problems.add(
                line(&self.routing_key),
                message,
                "use a queue whose name does not begin with countersign.",
            );
        }
        if routing_key.is_empty() || routing_key.len() > MAX_NAME_BYTES || exchange.len() > MAX_NAME_BYTES {
            let message = "the routing key is empty, or it or the exchange is too long";
            problems.add(
                line(&self.routing_key),
                message,
                format!("use at most {MAX_NAME_BYTES} bytes for each"),
            );
        }
        AmqpConnector { exchange, routing_key: self.routing_key.value }
    }
}

impl Http {
    fn into_model(
        self,
        problems: &mut Problems,
        egress: &connector::Egress,
        certain_failures: BTreeSet<u16>,
    ) -> Option<HttpConnector> {
        let (at, url) = (line(&self.url), self.url.value);
        if url.contains("${") {
            let message = format!("{url:?} contains a variable without a value");
            problems.add(at, message, "set it in the environment");
            return None;
        }
        let Some(host) = host_of(&url) else {
            let message = format!("{url:?} is not an http or https URL without user, password and fragment");
            problems.add(at, message, "write a URL such as https://tools.example.com/cancel");
            return None;
        };
        if !egress.allow_hosts.contains(&host) {
            let message = format!("calls to the host {host:?} are not allowed");
            problems.add(at, message, "add it to allow_hosts: under egress:, or use a listed host");
        }
        for (header, variable) in &self.headers_env {
            let valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if header.is_empty() || !header.chars().all(valid) {
                let message = format!("{header:?} is not a valid name of a header");
                problems.add(line(variable), message, "use letters, digits and '-'");
            }
        }
        for variable in self.headers_env.values().chain(&self.signing_secret_env) {
            let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if variable.value.is_empty() || !variable.value.chars().all(valid) {
                let message = format!("{:?} is not a valid name of an environment variable", variable.value);
                let help = "write the name of the variable, such as AIRLINE_SECRET, not its value";
                problems.add(line(variable), message, help);
            }
        }
        Some(HttpConnector {
            url,
            signing_secret_env: self.signing_secret_env.map(|variable| variable.value),
            headers_env: self
                .headers_env
                .into_iter()
                .map(|(name, variable)| (name, variable.value))
                .collect(),
            certain_failures,
        })
    }
}

/// The host of the URL as URL parsing normalises it; `None` if the URL is not acceptable.
fn host_of(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let web = matches!(url.scheme(), "http" | "https");
    let host = url.host_str()?.to_ascii_lowercase();
    (plain && web).then_some(host)
}
