//! The `http` connector: POST with an idempotency key and a signature, no redirects, limited egress.

use std::{collections::BTreeSet, env, time::SystemTime};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use countersign_core::attempt::Attempt;
use countersign_core::refusal::Code;
use countersign_policy::{Egress, HttpConnector};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{
    Client, Response,
    header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use serde_json::Value;
use sha2::Sha256;
use url::Url;

use super::{
    egress::{self, PublicOnly},
    interface::{Call, Connector, ConnectorError},
};

/// The largest accepted answer, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Calls one URL.
pub(super) struct Http {
    client: Client,
    url: Url,
    headers: HeaderMap,
    secret: Option<Vec<u8>>,
    certain_failures: BTreeSet<u16>,
    repeats: bool,
}

impl Http {
    /// `repeats` says whether an attempt without a definite answer is followed by another. Where it is not, each call
    /// has a connection of its own: the service may close an idle one at the moment when a request is written to it,
    /// and then nobody knows whether the request has arrived.
    pub(super) fn new(
        definition: &HttpConnector,
        egress: &Egress,
        repeats: bool,
    ) -> Result<Self, ConnectorError> {
        let refused = |reason: String| ConnectorError::Refused { url: definition.url.clone(), reason };
        let url = Url::parse(&definition.url).map_err(|error| refused(error.to_string()))?;
        if let Some(reason) = egress::refusal(&url, egress) {
            return Err(refused(reason));
        }
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(if repeats { usize::MAX } else { 0 })
            .dns_resolver(std::sync::Arc::new(PublicOnly::new(egress)))
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ConnectorError::Client(error.to_string()))?;
        Ok(Self {
            client,
            url,
            headers: headers(definition)?,
            secret: definition.signing_secret_env.as_deref().map(secret).transpose()?,
            certain_failures: definition.certain_failures.clone(),
            repeats,
        })
    }

    /// Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, base64, as `v1,…`.
    fn sign(&self, headers: &mut HeaderMap, call: &Call<'_>) {
        let Some(secret) = &self.secret else { return };
        let seconds = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
            .to_string();
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return };
        for part in [call.idempotency_key.as_bytes(), b".", seconds.as_bytes(), b".", call.arguments] {
            mac.update(part);
        }
        let signature = format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()));
        insert(headers, "webhook-id", call.idempotency_key);
        insert(headers, "webhook-timestamp", &seconds);
        insert(headers, "webhook-signature", &signature);
    }

    fn request_headers(&self, call: &Call<'_>) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if !self.repeats {
            // Whoever does not keep connections open says so (RFC 9112, 9.3).
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // A structured-field string, as draft-ietf-httpapi-idempotency-key-header requires.
        insert(&mut headers, "idempotency-key", &format!("\"{}\"", call.idempotency_key));
        if let Some(traceparent) = call.traceparent {
            insert(&mut headers, "traceparent", traceparent);
        }
        self.sign(&mut headers, call);
        headers
    }
}

/// Leaves out a value that a header cannot carry; ours are ids, numbers and base64.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn environment(name: &str) -> Result<String, ConnectorError> {
    env::var(name).map_err(|_| ConnectorError::Environment(name.into()))
}

fn secret(name: &str) -> Result<Vec<u8>, ConnectorError> {
    let malformed = || ConnectorError::Secret(name.into());
    let text = environment(name)?;
    BASE64.decode(text.trim().strip_prefix("whsec_").ok_or_else(malformed)?).map_err(|_| malformed())
}

fn headers(definition: &HttpConnector) -> Result<HeaderMap, ConnectorError> {
    let mut headers = HeaderMap::new();
    for (name, variable) in &definition.headers_env {
        let malformed = || ConnectorError::Client(format!("header {name:?} from {variable} is not valid"));
        let mut value = HeaderValue::from_str(&environment(variable)?).map_err(|_| malformed())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?, value);
    }
    Ok(headers)
}

#[async_trait]
impl Connector for Http {
    async fn call(&self, call: &Call<'_>) -> Attempt {
        let request = self
            .client
            .post(self.url.clone())
            .headers(self.request_headers(call))
            .body(call.arguments.to_vec());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => {
                return Attempt::NotSent { code: Code::Unreachable.into(), message: chain(&error) };
            }
            Err(error) => {
                return Attempt::Unknown { code: Code::ConnectionLost.into(), message: chain(&error) };
            }
        };
        let status = response.status();
        match (body(response).await, status) {
            (Err(message), status) if status.is_success() => {
                // The tool reported success; only its answer is lost.
                Attempt::Succeeded(Value::String(format!("(answer not kept: {message})")))
            }
            (body, status) => Attempt::of_http(
                status.as_u16(),
                status.canonical_reason().unwrap_or_default(),
                &body.unwrap_or_else(String::into_bytes),
                &self.certain_failures,
            ),
        }
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(format!("the answer exceeds {ANSWER_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes: reqwest's own text stops short of the interesting one. The URL is left out, it
/// may hold secrets.
fn chain(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let mut text = "the request failed".to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
