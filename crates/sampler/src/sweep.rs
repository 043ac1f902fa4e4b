//! What the sampler looks for: ended actions without a draw, open audits and compensations whose messages may be lost,
//! epochs that have closed.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use countersign_broker::{
    publisher::Outgoing,
    topology::{FINDINGS, SETTLED},
};
use countersign_core::message::Command;
use countersign_runtime::{
    messages,
    process::Process,
    sweep::{Load, Sweeper},
};
use countersign_store::{StoreError, Transaction, compensations, epochs, sweeps};

/// How often everything since the mark is looked at: at a high rate these are hundreds of thousands of actions.
const WHOLE: Duration = Duration::from_secs(60);

/// A look in between goes back to the one before it, and this much further: to what was committed a little late.
const LATE: Duration = Duration::from_secs(5);

/// The sampler's sweep.
pub(crate) struct SamplerSweep {
    republish: f64,
    closed: f64,
    lost: f64,
    /// When settled actions were last looked at.
    looked: Option<Instant>,
    /// When all of them since the mark were.
    whole: Option<Instant>,
}

/// So many seconds after its end no transaction can draw in an epoch any more.
pub(crate) fn closed_after(process: &Process) -> f64 {
    2.0 * process.settings.limits.transaction.as_secs_f64()
}

impl SamplerSweep {
    pub(crate) fn new(process: &Process) -> Self {
        let republish = process.settings.sweep.republish_after.as_secs_f64();
        let lost = process.settings.sweep.unclaimed_after.as_secs_f64();
        Self { republish, closed: closed_after(process), lost, looked: None, whole: None }
    }

    /// How far back a look at `now` goes, in seconds; `None`: as far as the mark.
    fn reach(&self, now: Instant) -> Option<f64> {
        let (before, whole) = self.looked.zip(self.whole)?;
        (now - whole < WHOLE).then(|| (now - before + LATE).as_secs_f64())
    }

    /// Settled packs for ended actions that have no draw.
    async fn settled(&mut self, tx: &Transaction) -> Result<Vec<Outgoing>, StoreError> {
        let look = Instant::now();
        let reach = self.reach(look);
        let actions = sweeps::to_draw(tx, self.lost, reach).await?;
        // Only now: a look that failed has seen nothing, and the next one goes back behind it.
        self.looked = Some(look);
        if reach.is_none() {
            self.whole = self.looked;
        }
        Ok(messages::settled("/countersign/sampler", &actions, Utc::now()))
    }
}

#[async_trait]
impl Sweeper for SamplerSweep {
    fn answers(&self) -> Option<&'static str> {
        Some(FINDINGS)
    }

    fn input(&self) -> Option<&'static str> {
        Some(SETTLED)
    }

    async fn due(&mut self, tx: &Transaction, load: Load) -> Result<Vec<Outgoing>, StoreError> {
        let now = Utc::now();
        let mut due = if load.caught_up { self.settled(tx).await? } else { vec![] };
        for audit in sweeps::to_audit(tx, self.republish * load.backoff_factor).await? {
            due.push(messages::command("sampler", Command::RequestAudit { audit }, now));
        }
        for epoch in epochs::to_reveal(tx, self.closed).await? {
            due.push(messages::command("sampler", Command::RevealEpoch { epoch }, now));
        }
        for action in compensations::to_propose(tx, self.lost).await? {
            due.push(messages::command("router", Command::Compensate { action }, now));
        }
        Ok(due)
    }
}
