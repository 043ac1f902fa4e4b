//! The contract: every message, exchange, queue and code.

use serde_json::Value;

/// The contract as an AsyncAPI 3 document.
pub fn document() -> Value {
    countersign_broker::contract::asyncapi()
}
