//! The router's sweep: deadlines, unclaimed permits, released holds, requests that may be lost.

use async_trait::async_trait;
use chrono::Utc;
use countersign_broker::{publisher::Outgoing, topology::DECISIONS};
use countersign_core::message::Command;
use countersign_runtime::{
    messages,
    process::Process,
    sweep::{Load, Sweeper},
};
use countersign_store::{StoreError, Transaction, sweeps, waiting};

/// The router's sweep.
pub(crate) struct RouterSweep {
    unclaimed: f64,
    republish: f64,
}

impl RouterSweep {
    pub(crate) fn new(process: &Process) -> Self {
        let sweep = &process.settings.sweep;
        Self {
            unclaimed: sweep.unclaimed_after.as_secs_f64(),
            republish: sweep.republish_after.as_secs_f64(),
        }
    }
}

#[async_trait]
impl Sweeper for RouterSweep {
    fn answers(&self) -> Option<&str> {
        Some(DECISIONS)
    }

    async fn due(&mut self, tx: &Transaction, load: Load) -> Result<Vec<Outgoing>, StoreError> {
        // The time on a command only says when it was sent: no decision depends on it.
        let now = Utc::now();
        let mut due = Vec::new();
        for action in sweeps::to_reevaluate(tx, self.unclaimed).await? {
            due.push(messages::reevaluate(action, now));
        }
        for action in sweeps::to_request(tx, self.republish * load.backoff_factor).await? {
            due.push(messages::command("router", Command::RequestApproval { action }, now));
        }
        waiting::forget(tx).await?;
        Ok(due)
    }
}
