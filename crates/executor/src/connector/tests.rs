use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::post,
};
use countersign_core::attempt::Attempt;
use countersign_policy::{Configuration, Egress, HttpConnector, Sources};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{egress::is_private, *};
use crate::tools::{ToolCall, Tools};

const CALL: Call<'static> = Call {
    tool: "t",
    arguments: br#"{"x":1}"#,
    idempotency_key: "0193",
    action: ("/agents/a", "a-1"),
    traceparent: None,
    timeout: Duration::from_secs(2),
};

type Script = Arc<Vec<(u16, &'static str)>>;
type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A tool service that answers with `script`, one entry per request, the last one repeatedly.
async fn service(script: Vec<(u16, &'static str)>) -> (String, Seen) {
    let seen = Seen::default();
    let app = Router::new().route(
        "/tool",
        post(|State((seen, script)): State<(Seen, Script)>, headers: HeaderMap, body: Bytes| async move {
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.push((headers, body));
                seen.len()
            };
            let (status, text) = script[(number - 1).min(script.len() - 1)];
            if status == 0 {
                std::future::pending::<()>().await;
            }
            let mut response: Response =
                (StatusCode::from_u16(status).unwrap(), text.to_owned()).into_response();
            response.headers_mut().insert(LOCATION, "/elsewhere".parse().unwrap());
            response
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/tool", listener.local_addr().unwrap());
    let app = app.with_state((seen.clone(), Arc::new(script)));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, seen)
}

fn egress(private: &[&str]) -> Egress {
    let hosts = ["127.0.0.1", "::1", "localhost", "169.254.169.254"].map(str::to_owned).to_vec();
    Egress { allow_hosts: hosts, allow_private: private.iter().map(|&host| host.to_owned()).collect() }
}

fn definition(url: &str) -> countersign_policy::Connector {
    countersign_policy::Connector::Http(HttpConnector {
        url: url.into(),
        signing_secret_env: None,
        headers_env: Default::default(),
        certain_failures: [503].into(),
    })
}

fn connect(url: &str, private: &[&str]) -> Result<Arc<dyn Connector>, ConnectorError> {
    build(&definition(url), &egress(private), true, &Links::new("amqp://localhost", Arc::new(|_, _| ())))
}

async fn run(script: Vec<(u16, &'static str)>, idempotent: bool) -> (CallResult, u32, Seen) {
    let (url, seen) = service(script).await;
    let connector = connect(&url, &["127.0.0.1"]).unwrap();
    let (call, pause) = (Call { timeout: Duration::from_millis(500), ..CALL }, Duration::from_millis(1));
    let (result, attempts) = call_with_retry(connector.as_ref(), &call, idempotent, 3, pause, false).await;
    (result, attempts, seen)
}

#[tokio::test]
async fn an_idempotent_call_is_retried_with_the_same_key_and_body() {
    let (result, attempts, seen) = run(vec![(500, ""), (0, ""), (200, r#"{"ok":true}"#)], true).await;
    assert_eq!((result, attempts), (CallResult::Succeeded(serde_json::json!({"ok": true})), 3));
    for (headers, body) in seen.lock().unwrap().iter() {
        assert_eq!(headers["idempotency-key"], "\"0193\"");
        assert_eq!(body.as_ref(), CALL.arguments);
    }
}

#[tokio::test]
async fn a_tool_without_idempotency_is_in_doubt_after_one_unanswered_request() {
    for script in [vec![(500, "")], vec![(0, "")]] {
        let (result, attempts, seen) = run(script, false).await;
        assert!(matches!(result, CallResult::InDoubt { .. }), "{result:?}");
        assert_eq!((attempts, seen.lock().unwrap().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_refusal_is_a_failure_unless_an_earlier_attempt_is_in_doubt() {
    let (result, _, _) = run(vec![(409, "taken")], true).await;
    assert!(matches!(result, CallResult::Failed { code, .. } if code == "http_409"));
    let (result, _, _) = run(vec![(500, ""), (409, "taken")], true).await;
    assert!(matches!(result, CallResult::InDoubt { code, .. } if code == "http_500"));
}

#[tokio::test]
async fn after_an_interrupted_attempt_only_a_success_is_conclusive() {
    let (url, _) = service(vec![(409, "taken"), (200, "1")]).await;
    let connector = connect(&url, &["127.0.0.1"]).unwrap();
    let pause = Duration::from_millis(1);
    let retry = || call_with_retry(connector.as_ref(), &CALL, true, 3, pause, true);
    assert!(matches!(retry().await.0, CallResult::InDoubt { code, .. } if code == "interrupted"));
    assert_eq!(retry().await.0, CallResult::Succeeded(1.into()));
}

#[tokio::test]
async fn an_answer_that_says_nothing_certain_puts_the_action_in_doubt() {
    for status in [300, 302, 303, 304, 307, 399, 408, 499, 500, 502, 504, 599, 600] {
        for idempotent in [false, true] {
            let (result, attempts, seen) = run(vec![(status, "")], idempotent).await;
            let wanted = format!("http_{status}");
            assert!(matches!(&result, CallResult::InDoubt { code, .. } if *code == wanted), "{result:?}");
            let calls = if idempotent { 3 } else { 1 };
            assert_eq!((attempts, seen.lock().unwrap().len()), (calls, calls as usize), "{status}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_certain_and_what_was_not_processed_is_repeated() {
    for (status, calls) in [(400, 1), (401, 1), (404, 1), (409, 1), (422, 1), (421, 3), (425, 3), (429, 3)] {
        let (result, attempts, _) = run(vec![(status, "")], true).await;
        let wanted = format!("http_{status}");
        assert!(matches!(&result, CallResult::Failed { code, .. } if *code == wanted), "{result:?}");
        assert_eq!(attempts, calls, "{status}");
        let (result, ..) = run(vec![(status, "")], false).await;
        assert!(matches!(&result, CallResult::Failed { code, .. } if *code == wanted), "{result:?}");
    }
}

#[tokio::test]
async fn a_status_that_the_tool_vouches_for_is_a_failure_and_a_retry_is_safe() {
    let (result, attempts, _) = run(vec![(503, "closed")], false).await;
    assert!(matches!(result, CallResult::Failed { code, .. } if code == "http_503"));
    assert_eq!(attempts, 3);
    let (result, ..) = run(vec![(500, ""), (503, "closed")], true).await;
    assert!(
        matches!(result, CallResult::InDoubt { code, .. } if code == "http_500"),
        "it vouches for one only"
    );
}

/// A service that closes each connection after one answer, just when the next request arrives on it. Returns how many
/// requests it has read.
async fn hasty_service() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/tool", listener.local_addr().unwrap());
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(CALL.arguments) {
                    stream.read_buf(&mut request).await.unwrap();
                }
                counted.fetch_add(1, Ordering::Relaxed);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1").await.unwrap();
                let _ = stream.readable().await;
            });
        }
    });
    (url, read)
}

/// The connector of a tool with these fields in the registry, and the call's limits.
fn registered(url: &str, fields: &str) -> Arc<ToolCall> {
    let read = |file: &str| {
        std::fs::read_to_string(format!("{}/../../examples/airline/{file}", env!("CARGO_MANIFEST_DIR")))
            .unwrap()
    };
    let tools = read("tools.yaml").replace("${AIRLINE_TOOLS_URL}", "http://127.0.0.1:1");
    let one = format!(
        "\n  - name: one\n    description: One\n    connector: {{http: {{url: \"{url}\"}}}}\n    \
         arguments: {{type: object}}\n    timeout: 2s\n    {fields}\n"
    );
    let sources =
        Sources { policy: read("policy.yaml"), tools: tools + &one, directory: read("directory.yaml") };
    let configuration = Configuration::parse(&sources).unwrap();
    let registry = configuration.tools;
    Tools::new("amqp://localhost", Arc::new(|_, _| ()))
        .call(registry.get("one").unwrap(), registry.egress())
        .unwrap()
}

#[tokio::test]
async fn a_call_that_is_not_repeated_never_meets_a_connection_that_the_service_is_closing() {
    let (url, read) = hasty_service().await;
    for fields in ["idempotent: false", "idempotent: true"] {
        read.store(0, Ordering::Relaxed);
        let tool = registered(&url, fields);
        for number in 1..=20 {
            let connector = tool.connector.as_ref();
            let (result, attempts) =
                call_with_retry(connector, &CALL, tool.idempotent, tool.attempts, tool.backoff, false).await;
            assert_eq!((result, attempts), (CallResult::Succeeded(1.into()), 1), "{fields}");
            assert_eq!(read.load(Ordering::Relaxed), number);
        }
    }
    // A repeated call may meet such a connection: then it is sent again.
    let tool = registered(&url, "idempotent: true\n    retry: {attempts: 3, backoff: 1ms}");
    for _ in 0..20 {
        let connector = tool.connector.as_ref();
        let (result, _) =
            call_with_retry(connector, &CALL, tool.idempotent, tool.attempts, tool.backoff, false).await;
        assert_eq!(result, CallResult::Succeeded(1.into()));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    // The usual answer after a form was carried out.
    let (result, _, seen) = run(vec![(303, "")], false).await;
    assert!(matches!(result, CallResult::InDoubt { code, .. } if code == "http_303"));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_oversized_answer_is_not_kept_but_the_success_is() {
    let large: &'static str = Box::leak("x".repeat(2 << 20).into_boxed_str());
    let (result, _, _) = run(vec![(200, large)], true).await;
    assert!(matches!(result, CallResult::Succeeded(Value::String(text)) if text.contains("not kept")));
}

#[tokio::test]
async fn a_refused_connection_is_a_failure_and_never_in_doubt() {
    let connector = connect("http://127.0.0.1:9/tool", &["127.0.0.1"]).unwrap();
    let pause = Duration::from_millis(1);
    let (result, attempts) = call_with_retry(connector.as_ref(), &CALL, false, 2, pause, false).await;
    assert!(matches!(result, CallResult::Failed { code, .. } if code == "unreachable"));
    assert_eq!(attempts, 2);
}

#[tokio::test]
async fn private_addresses_are_refused_in_every_spelling_unless_allowed_by_name() {
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://169.254.169.254/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://%31%32%37.0.0.1/",
        "http://127.0.0.1./",
        "http://１２７.0.0.1/",
        "http://localhost./",
        "http://localhost@169.254.169.254/",
        "http://169.254.169.254#@localhost/",
        "http://other.example.com/",
        "file:///etc/passwd",
    ] {
        assert!(connect(url, &[]).is_err(), "{url}");
    }
    // A name is checked by the address that it resolves to.
    let (url, seen) = service(vec![(200, "")]).await;
    let connector = connect(&url.replace("127.0.0.1", "localhost"), &[]).unwrap();
    assert!(matches!(connector.call(&CALL).await, Attempt::NotSent { .. }));
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_name_is_resolved_and_checked_at_each_call() {
    use reqwest::dns::Resolve as _;
    // Nothing is cached: a name that is rebound is checked like any other.
    let resolve = |private: &[&str]| {
        let name = "localhost".parse().unwrap();
        super::egress::PublicOnly::new(&egress(private)).resolve(name)
    };
    assert!(resolve(&[]).await.is_err());
    assert!(
        resolve(&["127.0.0.1", "::1"]).await.is_err(),
        "allowing an address does not allow the name that resolves to it"
    );
    let found: Vec<_> = resolve(&["localhost"]).await.unwrap().collect();
    assert!(found.iter().all(|address| is_private(address.ip())), "{found:?}");
}

#[test]
fn addresses_that_embed_a_private_one_are_private() {
    for address in [
        "10.0.0.1",
        "100.64.0.1",
        "192.0.0.1",
        "198.18.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "169.254.169.254",
        "192.88.99.1",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1.1.1.1",
        "2002:a9fe:a9fe::1",
        "2001:0:4136:e378::",
        "2001:2::1",
        "2001:10::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "100::1",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fc00::1",
        "fe80::1",
        "ff02::1",
    ] {
        assert!(is_private(address.parse::<IpAddr>().unwrap()), "{address}");
    }
    for address in ["1.1.1.1", "2606:4700::1111", "2001:4860::8888", "3fff:1000::1", "64:ff9b::101:101"] {
        assert!(!is_private(address.parse::<IpAddr>().unwrap()), "{address}");
    }
}
