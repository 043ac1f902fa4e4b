//! How tools are called, as it is written in `tools.yaml`, and where calls may go.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::tools::{AmqpConnector, Connector, Egress, HttpConnector};
use super::yaml::{Problems, line};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEgress {
    #[serde(default)]
    allow_hosts: Vec<Spanned<String>>,
    #[serde(default)]
    allow_private: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConnector {
    http: Option<RawHttp>,
    amqp: Option<RawAmqp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    url: Spanned<String>,
    signing_secret_env: Option<Spanned<String>>,
    #[serde(default)]
    headers_env: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAmqp {
    #[serde(default)]
    exchange: String,
    routing_key: Spanned<String>,
}

pub(super) fn egress(problems: &mut Problems, raw: RawEgress) -> Egress {
    let hosts = |listed: Vec<Spanned<String>>, problems: &mut Problems| {
        let host = |host: Spanned<String>| {
            if host_of(&format!("http://{}/", host.value)) != Some(host.value.to_ascii_lowercase()) {
                let message = format!("{:?} is not a host", host.value);
                let help = "write a name or an address without scheme and port, such as tools.example.com";
                problems.add(line(&host), message, help);
            }
            host.value.to_ascii_lowercase()
        };
        listed.into_iter().map(host).collect::<Vec<_>>()
    };
    Egress {
        allow_hosts: hosts(raw.allow_hosts, problems),
        allow_private: hosts(raw.allow_private, problems),
    }
}

pub(super) fn connector(
    problems: &mut Problems,
    raw: &Spanned<RawConnector>,
    egress: &Egress,
) -> Option<Connector> {
    match (&raw.value.http, &raw.value.amqp) {
        (Some(http_connector), None) => http(problems, http_connector, egress).map(Connector::Http),
        (None, Some(amqp)) => {
            if amqp.exchange.starts_with("countersign.") || amqp.exchange.starts_with("amq.") {
                let message = format!("the exchange {:?} is not a tool service's", amqp.exchange);
                let help = "use an exchange that begins neither with countersign. nor with amq.";
                problems.add(line(raw), message, help);
            }
            let routing_key = amqp.routing_key.value.clone();
            // By the default exchange a key is the name of a queue: arguments are no messages of ours.
            if amqp.exchange.is_empty() && routing_key.starts_with("countersign.") {
                let message = format!("the queue {routing_key:?} is not a tool service's");
                let help = "use a queue that does not begin with countersign.";
                problems.add(line(&amqp.routing_key), message, help);
            }
            if routing_key.is_empty() || routing_key.len() > 255 || amqp.exchange.len() > 255 {
                let message = "the exchange or the routing key is empty or too long";
                problems.add(line(&amqp.routing_key), message, "keep each within 255 bytes");
            }
            Some(Connector::Amqp(AmqpConnector { exchange: amqp.exchange.clone(), routing_key }))
        }
        _ => {
            let message = "a tool has exactly one connector";
            problems.add(line(raw), message, "write either http: {url: ..} or amqp: {routing_key: ..}");
            None
        }
    }
}

fn http(problems: &mut Problems, raw: &RawHttp, egress: &Egress) -> Option<HttpConnector> {
    let url = &raw.url.value;
    if url.contains("${") {
        let message = format!("{url:?} has a variable without a value");
        problems.add(line(&raw.url), message, "set it in the environment");
        return None;
    }
    let Some(host) = host_of(url) else {
        let message = format!("{url:?} is not an http or https URL without user, password and fragment");
        problems.add(line(&raw.url), message, "write such as https://tools.example.com/cancel");
        return None;
    };
    if !egress.allow_hosts.contains(&host) {
        let message = format!("calls to the host {host:?} are not allowed");
        problems.add(line(&raw.url), message, "add it to egress: allow_hosts:, or use a listed host");
    }
    for (header, variable) in &raw.headers_env {
        let name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if header.is_empty() || !header.chars().all(name) {
            let message = format!("{header:?} is not the name of a header");
            problems.add(line(variable), message, "use letters, digits and '-'");
        }
    }
    for variable in raw.headers_env.values().chain(&raw.signing_secret_env) {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if variable.value.is_empty() || !variable.value.chars().all(valid) {
            let message = format!("{:?} is not the name of an environment variable", variable.value);
            problems.add(line(variable), message, "write its name, such as AIRLINE_SECRET, not its value");
        }
    }
    let value = |spanned: &Spanned<String>| spanned.value.clone();
    Some(HttpConnector {
        url: url.clone(),
        signing_secret_env: raw.signing_secret_env.as_ref().map(value),
        headers_env: raw.headers_env.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
    })
}

/// The host that a request to this URL goes to, as URLs normalise it.
fn host_of(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let web = matches!(url.scheme(), "http" | "https");
    let host = url.host_str()?.to_ascii_lowercase();
    (plain && web).then_some(host)
}
