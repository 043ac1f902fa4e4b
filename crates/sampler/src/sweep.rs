//! What the sampler looks for: open audits whose requests may be lost, epochs of the coin that have closed.

use async_trait::async_trait;
use chrono::Utc;
use countersign_broker::publisher::Outgoing;
use countersign_core::message::Command;
use countersign_store::{StoreError, Transaction, epochs, sweeps};
use countersign_worker::{messages, process::Process, sweep::Sweeper};

/// The sampler's sweep.
pub(crate) struct SamplerSweep {
    republish: f64,
    closed: f64,
}

/// So many seconds after its end no transaction can throw the coin of an epoch any more.
pub(crate) fn closed_after(process: &Process) -> f64 {
    2.0 * process.settings.limits.transaction.as_secs_f64()
}

impl SamplerSweep {
    pub(crate) fn new(process: &Process) -> Self {
        let republish = process.settings.sweep.republish_after.as_secs_f64();
        Self { republish, closed: closed_after(process) }
    }
}

#[async_trait]
impl Sweeper for SamplerSweep {
    async fn due(&mut self, tx: &Transaction<'_>) -> Result<Vec<Outgoing>, StoreError> {
        let now = Utc::now();
        let audits = sweeps::to_audit(tx, self.republish).await?;
        let audits = audits.into_iter().map(|audit| Command::RequestAudit { audit });
        let closed = epochs::to_reveal(tx, self.closed).await?;
        let closed = closed.into_iter().map(|epoch| Command::RevealEpoch { epoch });
        Ok(audits.chain(closed).map(|command| messages::command("sampler", command, now)).collect())
    }
}
