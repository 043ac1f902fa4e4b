//! The settings of a lane.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// The queues of a lane. One that is added is consumed from then on; one that is taken away stays until the lane restarts.
pub type Queues = watch::Receiver<Arc<[String]>>;

/// Where a lane takes its messages from and how many at a time.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// The broker.
    pub url: String,
    /// What its messages are, as crash points name it: the exchange or the queue that they come by.
    pub input: String,
    /// The queues. Where more waits than fits into a batch, each has as many places as any other.
    pub queues: Queues,
    /// Most deliveries in one transaction.
    pub batch_max: u16,
    /// How long to wait for further deliveries after the first. Zero takes what has already arrived; a lane that is behind
    /// waits at least a millisecond.
    pub linger: Duration,
    /// How long a batch's transaction may take.
    pub handle_limit: Duration,
}

impl LaneSettings {
    /// A lane's queues where they are always one and the same.
    pub fn one(queue: &str) -> Queues {
        watch::channel(Arc::from([queue.to_owned()])).1
    }
}
