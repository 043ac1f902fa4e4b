//! What the sampler looks for: open audits and compensations whose messages may be lost, epochs of the coin that have
//! closed.

use async_trait::async_trait;
use chrono::Utc;
use countersign_broker::{publisher::Outgoing, topology::FINDINGS};
use countersign_core::message::Command;
use countersign_runtime::{messages, process::Process, sweep::Sweeper};
use countersign_store::{StoreError, Transaction, compensations, epochs, sweeps};

/// The sampler's sweep.
pub(crate) struct SamplerSweep {
    republish: f64,
    closed: f64,
    lost: f64,
}

/// So many seconds after its end no transaction can throw the coin of an epoch any more.
pub(crate) fn closed_after(process: &Process) -> f64 {
    2.0 * process.settings.limits.transaction.as_secs_f64()
}

impl SamplerSweep {
    pub(crate) fn new(process: &Process) -> Self {
        let republish = process.settings.sweep.republish_after.as_secs_f64();
        let lost = process.settings.sweep.unclaimed_after.as_secs_f64();
        Self { republish, closed: closed_after(process), lost }
    }
}

#[async_trait]
impl Sweeper for SamplerSweep {
    fn answers(&self) -> Option<&'static str> {
        Some(FINDINGS)
    }

    async fn due(&mut self, tx: &Transaction, backoff_factor: f64) -> Result<Vec<Outgoing>, StoreError> {
        let now = Utc::now();
        let audits = sweeps::to_audit(tx, self.republish * backoff_factor).await?;
        let audits = audits.into_iter().map(|audit| Command::RequestAudit { audit });
        let closed = epochs::to_reveal(tx, self.closed).await?;
        let closed = closed.into_iter().map(|epoch| Command::RevealEpoch { epoch });
        let own = audits.chain(closed).map(|command| messages::command("sampler", command, now));
        let undo = compensations::to_propose(tx, self.lost).await?;
        let undo = undo.into_iter().map(|action| Command::Compensate { action });
        Ok(own.chain(undo.map(|command| messages::command("router", command, now))).collect())
    }
}
