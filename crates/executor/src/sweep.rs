//! What the executor looks for: leases that ran out, outcomes that nobody may have been told.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use countersign_broker::publisher::Outgoing;
use countersign_core::message::Command;
use countersign_store::{StoreError, Transaction, sweeps};
use countersign_worker::{messages, process::Process, sweep::Sweeper};

/// How often all outcomes since the mark are looked at: at a high rate they are hundreds of thousands.
const WHOLE: Duration = Duration::from_secs(60);

/// The executor's sweep.
pub(crate) struct ExecutorSweep {
    unanswered: f64,
    /// What the looks in between go back: what has come since the last one, and what was committed a little late.
    recent: f64,
    whole: Option<Instant>,
}

impl ExecutorSweep {
    pub(crate) fn new(process: &Process) -> Self {
        let sweep = &process.settings.sweep;
        Self {
            unanswered: sweep.unanswered_after.as_secs_f64(),
            // Sweeps are up to one and a half times as far apart as they should be.
            recent: 1.5 * sweep.every.as_secs_f64() + 3.0,
            whole: None,
        }
    }

    /// How far back this look goes; `None`: as far as the mark.
    fn reach(&mut self) -> Option<f64> {
        if self.whole.is_some_and(|last| last.elapsed() < WHOLE) {
            return Some(self.recent);
        }
        self.whole = Some(Instant::now());
        None
    }
}

#[async_trait]
impl Sweeper for ExecutorSweep {
    async fn due(&mut self, tx: &Transaction<'_>, _: f64) -> Result<Vec<Outgoing>, StoreError> {
        let now = Utc::now();
        let mut due = Vec::new();
        for action in sweeps::to_recover(tx, 0.0).await? {
            due.push(messages::command("executor", Command::Recover { action }, now));
        }
        for action in sweeps::to_answer(tx, self.unanswered, self.reach()).await? {
            due.push(messages::command("executor", Command::Answer { action }, now));
        }
        Ok(due)
    }
}
