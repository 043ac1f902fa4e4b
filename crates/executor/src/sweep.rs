//! What the executor looks for: expired leases, and outcomes that the broker has not confirmed.

use async_trait::async_trait;
use chrono::Utc;
use countersign_broker::publisher::Outgoing;
use countersign_core::message::Command;
use countersign_runtime::{
    messages,
    process::Process,
    sweep::{Load, Sweeper},
};
use countersign_store::{StoreError, Transaction, notifications, sweeps};

/// The executor's sweep.
pub(crate) struct ExecutorSweep {
    unanswered: f64,
}

impl ExecutorSweep {
    pub(crate) fn new(process: &Process) -> Self {
        Self { unanswered: process.settings.sweep.unanswered_after.as_secs_f64() }
    }
}

#[async_trait]
impl Sweeper for ExecutorSweep {
    async fn due(&mut self, tx: &Transaction, _: Load) -> Result<Vec<Outgoing>, StoreError> {
        let now = Utc::now();
        let mut due = Vec::new();
        for action in sweeps::to_recover(tx, 0.0).await? {
            due.push(messages::command("executor", Command::Recover { action }, now));
        }
        for action in notifications::overdue(tx, self.unanswered).await? {
            due.push(messages::command("executor", Command::Notify { action }, now));
        }
        Ok(due)
    }
}
