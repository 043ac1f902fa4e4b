//! The examples: a configuration folder, its tool service, and recorded actions with labels.

mod actions;
mod airline;
mod payments;

use std::path::PathBuf;

use clap::ValueEnum;
use countersign_testkit::tools::{Behaviour, ToolService};

pub(crate) use actions::{Labels, Opinion, read};

use countersign_testkit::build;

/// An example in `examples/`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Example {
    /// An airline's customer service: bookings, certificates, bags
    Airline,
    /// A treasury: transfers, contracts, limits of authority
    Payments,
}

impl Example {
    /// Its configuration folder.
    pub(crate) fn folder(self) -> PathBuf {
        let name = match self {
            Example::Airline => "airline",
            Example::Payments => "payments",
        };
        build::workspace().join("examples").join(name)
    }

    /// The cases that its recorded actions must contain.
    pub(crate) fn promises(self) -> &'static [&'static str] {
        match self {
            Example::Airline => &[
                "approved",
                "approved by a quorum",
                "edited by a reviewer",
                "escalated",
                "rejected",
                "found wrong by an auditor",
                "undoing what was wrong",
            ],
            Example::Payments => {
                &["approved", "approved by a quorum", "edited by a reviewer", "caught splitting"]
            }
        }
    }

    /// The variable in its `tools.yaml` for the address of its tool service.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Example::Airline => "AIRLINE_TOOLS_URL",
            Example::Payments => "PAYMENTS_TOOLS_URL",
        }
    }

    /// Starts its tool service.
    pub(crate) async fn tools(self) -> anyhow::Result<ToolService> {
        let behaviour: Box<dyn Behaviour> = match self {
            Example::Airline => Box::new(airline::Airline::default()),
            Example::Payments => Box::new(payments::Bank::default()),
        };
        ToolService::start(behaviour).await
    }
}
