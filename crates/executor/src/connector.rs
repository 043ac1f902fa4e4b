//! Connectors: how tools are called. They hold the outside credentials.

mod amqp;
mod egress;
mod http;
mod interface;
#[cfg(feature = "bench")]
mod noop;
mod retry;

use std::sync::Arc;

use countersign_policy::Egress;

pub use self::interface::{Call, Connector, ConnectorError, Late};
pub use self::retry::{CallResult, call_with_retry};

/// What connectors share: the links that outlive a single one.
pub struct Links {
    amqp: Arc<amqp::Link>,
}

impl Links {
    /// Connects nothing yet.
    pub fn new(amqp_url: &str, late: Late) -> Self {
        Self { amqp: Arc::new(amqp::Link::new(amqp_url, late)) }
    }
}

/// The connector for a tool's definition. `repeats` says whether it is given a second attempt where the first has no
/// definite answer.
///
/// # Errors
/// Where a secret is missing, or the egress limits forbid the URL.
pub fn build(
    definition: &countersign_policy::Connector,
    egress: &Egress,
    repeats: bool,
    links: &Links,
) -> Result<Arc<dyn Connector>, ConnectorError> {
    #[cfg(feature = "bench")]
    if matches!(definition, countersign_policy::Connector::Http(http) if http.url.starts_with(noop::URL)) {
        return Ok(Arc::new(noop::Noop));
    }
    Ok(match definition {
        countersign_policy::Connector::Http(http) => Arc::new(http::Http::new(http, egress, repeats)?),
        countersign_policy::Connector::Amqp(amqp) => Arc::new(amqp::Amqp::new(amqp, links.amqp.clone())),
    })
}

#[cfg(test)]
mod tests;
