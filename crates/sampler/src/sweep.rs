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

/// The same after a look that found something: it may have found more than it could return, or the broker may not have
/// taken what it found.
const WHOLE_AFTER_FIND: Duration = Duration::from_secs(5);

/// A look in between goes back to the one before it, and this much further: to what was committed a little late.
const LATE: Duration = Duration::from_secs(5);

/// Looks for settled actions without a draw: which have been made, and how far back the next one goes.
#[derive(Default)]
struct Looks {
    last: Option<Instant>,
    /// The last that went back to the mark.
    whole: Option<Instant>,
    /// Whether a look since then, that one included, found something.
    found: bool,
}

impl Looks {
    /// How far back a look at `now` goes, in seconds; `None`: as far as the mark.
    fn reach(&self, now: Instant) -> Option<f64> {
        let (last, whole) = self.last.zip(self.whole)?;
        let every = if self.found { WHOLE_AFTER_FIND } else { WHOLE };
        (now - whole < every).then(|| (now - last + LATE).as_secs_f64())
    }

    /// Notes a look at `now` that went back so far. One that failed is not noted: the next one goes back behind it.
    fn note(&mut self, now: Instant, reach: Option<f64>, found: bool) {
        self.last = Some(now);
        self.found = found || (self.found && reach.is_some());
        if reach.is_none() {
            self.whole = Some(now);
        }
    }
}

/// The sampler's sweep.
pub(crate) struct SamplerSweep {
    republish: f64,
    closed: f64,
    lost: f64,
    looks: Looks,
}

/// So many seconds after its end no transaction can draw in an epoch any more.
pub(crate) fn closed_after(process: &Process) -> f64 {
    2.0 * process.settings.limits.transaction.as_secs_f64()
}

impl SamplerSweep {
    pub(crate) fn new(process: &Process) -> Self {
        let republish = process.settings.sweep.republish_after.as_secs_f64();
        let lost = process.settings.sweep.unclaimed_after.as_secs_f64();
        Self { republish, closed: closed_after(process), lost, looks: Looks::default() }
    }

    /// Settled packs for ended actions that have no draw.
    async fn settled(&mut self, tx: &Transaction) -> Result<Vec<Outgoing>, StoreError> {
        let now = Instant::now();
        let reach = self.looks.reach(now);
        let actions = sweeps::to_draw(tx, self.lost, reach).await?;
        self.looks.note(now, reach, !actions.is_empty());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_reach_back_to_the_one_before_and_every_minute_to_the_mark() {
        let (start, mut looks) = (Instant::now(), Looks::default());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(looks.reach(start), None);
        looks.note(start, None, false);
        assert_eq!(looks.reach(at(2)), Some(7.0));
        // The look at 2 failed and was not noted.
        assert_eq!(looks.reach(at(4)), Some(9.0));
        looks.note(at(4), Some(9.0), false);
        assert_eq!(looks.reach(at(59)), Some(60.0));
        assert_eq!(looks.reach(at(60)), None);
    }

    #[test]
    fn after_a_find_the_whole_is_looked_at_again_soon() {
        let (start, mut looks) = (Instant::now(), Looks::default());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        looks.note(start, None, false);
        looks.note(at(10), Some(15.0), true);
        assert_eq!(looks.reach(at(11)), None);
        looks.note(at(11), None, true);
        assert_eq!(looks.reach(at(15)), Some(9.0));
        looks.note(at(15), Some(9.0), false);
        assert_eq!(looks.reach(at(16)), None, "what was found may still be without a draw");
        looks.note(at(16), None, false);
        assert_eq!(looks.reach(at(75)), Some(64.0));
    }
}
