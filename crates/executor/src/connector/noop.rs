//! A connector that calls nothing, in builds for measurements only.

use async_trait::async_trait;
use countersign_core::attempt::Attempt;
use serde_json::json;

use super::interface::{Call, Connector};

/// Tools under this URL are not called.
pub(super) const URL: &str = "http://noop.invalid/";

pub(super) struct Noop;

#[async_trait]
impl Connector for Noop {
    async fn call(&self, _call: &Call<'_>) -> Attempt {
        Attempt::Succeeded(json!("done"))
    }
}
