//! A small real tool service over HTTP: one effect per idempotency key, all of them recorded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A tool service's behaviour.
pub trait Behaviour: Send + 'static {
    /// Applies one call: an answer, or a status and the reason of a refusal. Called once per key, and again after a refusal.
    fn act(&mut self, tool: &str, arguments: &Value) -> Result<Value, (u16, String)>;

    /// The delay between a call's effect and its answer.
    fn answers_after(&self) -> Duration {
        Duration::ZERO
    }

    /// Notified of every call before it is applied; `known` if its key has already had an effect.
    fn called(&mut self, _call: &Effect, _known: bool) {}

    /// Notified of every effect.
    fn acted(&mut self, _effect: &Effect) {}
}

impl Behaviour for Box<dyn Behaviour> {
    fn act(&mut self, tool: &str, arguments: &Value) -> Result<Value, (u16, String)> {
        (**self).act(tool, arguments)
    }

    fn answers_after(&self) -> Duration {
        (**self).answers_after()
    }

    fn called(&mut self, call: &Effect, known: bool) {
        (**self).called(call, known);
    }

    fn acted(&mut self, effect: &Effect) {
        (**self).acted(effect);
    }
}

/// A behaviour with delayed answers: a call that is cut off in between has had its effect.
pub struct Slow<B>(pub B, pub Duration);

impl<B: Behaviour> Behaviour for Slow<B> {
    fn act(&mut self, tool: &str, arguments: &Value) -> Result<Value, (u16, String)> {
        self.0.act(tool, arguments)
    }

    fn answers_after(&self) -> Duration {
        self.1
    }
}

impl<F: FnMut(&str, &Value) -> Result<Value, (u16, String)> + Send + 'static> Behaviour for F {
    fn act(&mut self, tool: &str, arguments: &Value) -> Result<Value, (u16, String)> {
        self(tool, arguments)
    }
}

/// One effect, or one request for it.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The idempotency key of the call that had it.
    pub key: String,
    /// The tool.
    pub tool: String,
    /// What it was called with.
    pub arguments: Value,
}

struct Table {
    behaviour: Box<dyn Behaviour>,
    answers: HashMap<String, Value>,
    effects: Vec<Effect>,
    requests: Vec<Effect>,
}

type Shared = Arc<Mutex<Table>>;

fn lock(table: &Shared) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running service.
pub struct ToolService {
    url: String,
    table: Shared,
    task: JoinHandle<()>,
}

impl ToolService {
    /// Listens on a free loopback port.
    pub async fn start(behaviour: impl Behaviour) -> anyhow::Result<Self> {
        let table = Arc::new(Mutex::new(Table {
            behaviour: Box::new(behaviour),
            answers: HashMap::new(),
            effects: Vec::new(),
            requests: Vec::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = Router::new().route("/tools/{tool}", post(call)).with_state(table.clone());
        let task = tokio::spawn(async move {
            // Ends with the task; nobody can handle the error.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, table, task })
    }

    /// The base URL, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every effect so far.
    pub fn effects(&self) -> Vec<Effect> {
        lock(&self.table).effects.clone()
    }

    /// Every request so far, repetitions included.
    pub fn requests(&self) -> Vec<Effect> {
        lock(&self.table).requests.clone()
    }

    /// How many requests there were.
    pub fn calls(&self) -> usize {
        lock(&self.table).requests.len()
    }
}

impl Drop for ToolService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn call(
    State(table): State<Shared>,
    Path(tool): Path<String>,
    headers: HeaderMap,
    Json(arguments): Json<Value>,
) -> Response {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let key = key.trim_matches('"').to_owned();
    let (answer, pause) = answer(&mut lock(&table), Effect { key, tool, arguments });
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    answer
}

fn answer(table: &mut Table, request: Effect) -> (Response, Duration) {
    table.requests.push(request.clone());
    table.behaviour.called(&request, table.answers.contains_key(&request.key));
    if let Some(answer) = table.answers.get(&request.key) {
        return (Json(answer.clone()).into_response(), Duration::ZERO);
    }
    match table.behaviour.act(&request.tool, &request.arguments) {
        Ok(answer) => {
            table.behaviour.acted(&request);
            table.answers.insert(request.key.clone(), answer.clone());
            table.effects.push(request);
            (Json(answer).into_response(), table.behaviour.answers_after())
        }
        Err((status, message)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            ((status, Json(json!({"error": message}))).into_response(), Duration::ZERO)
        }
    }
}
