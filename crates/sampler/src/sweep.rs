//! What the sampler looks for: open audits whose requests may be lost.

use async_trait::async_trait;
use chrono::Utc;
use countersign_broker::publisher::Outgoing;
use countersign_core::message::Command;
use countersign_store::{StoreError, Transaction, sweeps};
use countersign_worker::{messages, process::Process, sweep::Sweeper};

/// The sampler's sweep.
pub(crate) struct SamplerSweep {
    republish: f64,
}

impl SamplerSweep {
    pub(crate) fn new(process: &Process) -> Self {
        Self { republish: process.settings.sweep.republish_after.as_secs_f64() }
    }
}

#[async_trait]
impl Sweeper for SamplerSweep {
    async fn due(&mut self, tx: &Transaction<'_>) -> Result<Vec<Outgoing>, StoreError> {
        let now = Utc::now();
        let audits = sweeps::to_audit(tx, self.republish).await?;
        Ok(audits
            .into_iter()
            .map(|audit| messages::command("sampler", Command::RequestAudit { audit }, now))
            .collect())
    }
}
