//! A small real tool service over HTTP: one effect per idempotency key, all of them written down.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

/// What a service does for a tool: an answer, or a status and why not.
pub trait Behaviour: Send + 'static {
    /// Applies one call. Called once per key, unless it refuses.
    fn act(&mut self, tool: &str, arguments: &Value) -> Result<Value, (u16, String)>;
}

impl<F: FnMut(&str, &Value) -> Result<Value, (u16, String)> + Send + 'static> Behaviour for F {
    fn act(&mut self, tool: &str, arguments: &Value) -> Result<Value, (u16, String)> {
        self(tool, arguments)
    }
}

/// One effect.
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
    calls: usize,
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
            calls: 0,
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = Router::new().route("/tools/{tool}", post(call)).with_state(table.clone());
        let task = tokio::spawn(async move {
            // Ends with the task; there is nobody to tell.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, table, task })
    }

    /// Without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every effect so far.
    pub fn effects(&self) -> Vec<Effect> {
        lock(&self.table).effects.clone()
    }

    /// Every request so far, repetitions included.
    pub fn calls(&self) -> usize {
        lock(&self.table).calls
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
    let mut table = lock(&table);
    table.calls += 1;
    if let Some(answer) = table.answers.get(&key) {
        return Json(answer.clone()).into_response();
    }
    match table.behaviour.act(&tool, &arguments) {
        Ok(answer) => {
            table.effects.push(Effect { key: key.clone(), tool, arguments });
            table.answers.insert(key, answer.clone());
            Json(answer).into_response()
        }
        Err((status, message)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, Json(json!({"error": message}))).into_response()
        }
    }
}
