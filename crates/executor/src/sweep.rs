//! What the executor looks for: leases that ran out, outcomes that nobody may have been told.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use countersign_broker::publisher::Outgoing;
use countersign_core::message::Command;
use countersign_runtime::{messages, process::Process, sweep::Sweeper};
use countersign_store::{StoreError, Transaction, sweeps};

/// How often all outcomes since the mark are looked at: at a high rate they are hundreds of thousands.
const WHOLE: Duration = Duration::from_secs(60);

/// A look in between goes back to the one before it, and this much further: to what was committed a little late.
const LATE: Duration = Duration::from_secs(5);

/// The executor's sweep.
pub(crate) struct ExecutorSweep {
    unanswered: f64,
    looked: Option<Instant>,
    whole: Option<Instant>,
}

impl ExecutorSweep {
    pub(crate) fn new(process: &Process) -> Self {
        Self { unanswered: process.settings.sweep.unanswered_after.as_secs_f64(), looked: None, whole: None }
    }

    /// How far back a look at `now` goes, in seconds; `None`: as far as the mark.
    fn reach(&self, now: Instant) -> Option<f64> {
        let (before, whole) = self.looked.zip(self.whole)?;
        (now - whole < WHOLE).then(|| (now - before + LATE).as_secs_f64())
    }
}

#[async_trait]
impl Sweeper for ExecutorSweep {
    async fn due(&mut self, tx: &Transaction, _: f64) -> Result<Vec<Outgoing>, StoreError> {
        let now = Utc::now();
        let mut due = Vec::new();
        for action in sweeps::to_recover(tx, 0.0).await? {
            due.push(messages::command("executor", Command::Recover { action }, now));
        }
        let look = Instant::now();
        let reach = self.reach(look);
        for action in sweeps::to_answer(tx, self.unanswered, reach).await? {
            due.push(messages::command("executor", Command::Answer { action }, now));
        }
        // Only now: a look that failed has seen nothing, and the next one goes back behind it.
        self.looked = Some(look);
        if reach.is_none() {
            self.whole = self.looked;
        }
        Ok(due)
    }
}
