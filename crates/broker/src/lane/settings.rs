//! The settings of a lane.

use std::time::Duration;

/// Where a lane takes its messages from and how many at a time.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// The broker.
    pub url: String,
    /// The queue.
    pub queue: String,
    /// Most deliveries in one transaction.
    pub batch_max: u16,
    /// How long to wait for further deliveries after the first. Zero takes what has already arrived; a lane that is behind
    /// waits at least a millisecond.
    pub linger: Duration,
    /// How long a batch's transaction may take.
    pub handle_limit: Duration,
}
