//! The context of an evaluation: one generation's configuration, the settings' limits, and the clock.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_policy::Configuration;
use countersign_runtime::{governed::Governed, settings::Limits};

/// What an evaluation depends on besides the proposal.
#[derive(Clone, Copy)]
pub(crate) struct EvaluationContext<'a> {
    /// The active generation, whose lock the transaction holds.
    pub(crate) governed: &'a Governed,
    pub(crate) limits: &'a Limits,
    /// The database's clock.
    pub(crate) now: DateTime<Utc>,
}

impl<'a> EvaluationContext<'a> {
    pub(crate) fn configuration(&self) -> &'a Configuration {
        &self.governed.configuration
    }

    /// How long a permit is valid.
    pub(crate) fn permit_lifetime(&self) -> TimeDelta {
        TimeDelta::from_std(self.limits.permit_lifetime).unwrap_or(TimeDelta::MAX)
    }
}
