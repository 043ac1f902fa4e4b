//! The connectors of registered tools, made once per version of a tool.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_policy::{Egress, Tool};

use crate::connector::{self, ConnectorError, Late, Links};

/// The most versions that are cached; beyond that, the cache is cleared.
const KEPT: usize = 1_024;

/// Added to a tool's budget to make its lease: time to start, and to record the outcome.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// What a call needs to know of its tool.
pub(crate) struct ToolCall {
    pub(crate) name: String,
    pub(crate) connector: Arc<dyn connector::Connector>,
    pub(crate) idempotent: bool,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) backoff: Duration,
    pub(crate) lease: Duration,
}

/// The lease of a claim on this tool's call.
pub(crate) fn lease(tool: &Tool) -> Duration {
    tool.budget() + LEASE_MARGIN
}

/// Connectors by tool and by its version with the limits on egress.
pub(crate) struct Tools {
    links: Links,
    known: Mutex<HashMap<(String, String), Arc<ToolCall>>>,
}

impl Tools {
    pub(crate) fn new(amqp_url: &str, late: Late) -> Self {
        Self { links: Links::new(amqp_url, late), known: Mutex::default() }
    }

    /// What is needed to call `tool`.
    pub(crate) fn call(&self, tool: &Tool, egress: &Egress) -> Result<Arc<ToolCall>, ConnectorError> {
        // The limits on egress are part of a connector, and can change while the tool does not.
        let egress_limits = format!("{:?}", egress);
        let key = (tool.name().to_owned(), tool.version().to_owned() + &egress_limits);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = known.get(&key) {
            return Ok(call.clone());
        }
        let call = Arc::new(ToolCall {
            name: tool.name().into(),
            connector: connector::build(tool.connector(), egress, tool.attempts() > 1, &self.links)?,
            idempotent: tool.idempotent(),
            timeout: tool.timeout(),
            attempts: tool.attempts(),
            backoff: tool.backoff(),
            lease: lease(tool),
        });
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, call.clone());
        Ok(call)
    }
}
