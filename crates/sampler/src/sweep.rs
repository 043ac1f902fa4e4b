//! What the sampler looks for: ended actions without a draw, open audits and compensations whose messages may be lost,
//! gold items that are due, epochs that have closed, sampling plans whose audits are overdue.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::Utc;
use countersign_broker::{
    publisher::Outgoing,
    topology::{FINDINGS, SETTLED},
};
use countersign_core::message::Command;
use countersign_runtime::{
    governed::GovernedCache,
    messages,
    process::Process,
    sweep::{Load, Sweeper},
};
use countersign_store::{
    StoreError, Transaction, compensations, epochs, generation, gold,
    sampling_plans::{self, Waiting},
    sweeps,
};

/// How often a scan goes back to the mark: at a high rate, that covers hundreds of thousands of actions.
const FULL_SCAN: Duration = Duration::from_secs(60);

/// The same after a scan that found something: it may have found more than it could return, or the broker may not have
/// accepted what it found.
const FULL_SCAN_AFTER_FIND: Duration = Duration::from_secs(5);

/// The scans in between overlap by this much, to cover what was committed late.
const OVERLAP: Duration = Duration::from_secs(5);

/// The scans for settled actions without a draw: when they were made, and how far back the next one goes.
#[derive(Default)]
struct Scans {
    last: Option<Instant>,
    /// The last one that went back to the mark.
    last_full: Option<Instant>,
    /// Whether it, or a scan since then, found something.
    found: bool,
}

impl Scans {
    /// How far back a scan at `now` goes, in seconds; `None` means back to the mark.
    fn reach(&self, now: Instant) -> Option<f64> {
        let (last, last_full) = self.last.zip(self.last_full)?;
        let every = if self.found { FULL_SCAN_AFTER_FIND } else { FULL_SCAN };
        (now - last_full < every).then(|| (now - last + OVERLAP).as_secs_f64())
    }

    /// Notes a scan at `now` that went back to `reach`. A failed one is not noted, so that the next one covers what it
    /// missed.
    fn note(&mut self, now: Instant, reach: Option<f64>, found: bool) {
        self.last = Some(now);
        self.found = found || (self.found && reach.is_some());
        if reach.is_none() {
            self.last_full = Some(now);
        }
    }
}

/// The sampler's sweep.
pub(crate) struct SamplerSweep {
    governed: Arc<GovernedCache>,
    republish: f64,
    closed: f64,
    lost: f64,
    scans: Scans,
}

/// The number of seconds after an epoch's end from which no transaction can still draw in it.
pub(crate) fn closed_after(process: &Process) -> f64 {
    2.0 * process.settings.limits.transaction.as_secs_f64()
}

impl SamplerSweep {
    pub(crate) fn new(process: &Process) -> Self {
        let republish = process.settings.sweep.republish_after.as_secs_f64();
        let lost = process.settings.sweep.unclaimed_after.as_secs_f64();
        let (governed, closed) = (process.governed.clone(), closed_after(process));
        Self { governed, republish, closed, lost, scans: Scans::default() }
    }

    /// Settled packs for ended actions that have no draw.
    async fn settled(&mut self, tx: &Transaction) -> Result<Vec<Outgoing>, StoreError> {
        let now = Instant::now();
        let reach = self.scans.reach(now);
        let actions = sweeps::to_draw(tx, self.lost, reach).await?;
        self.scans.note(now, reach, !actions.is_empty());
        Ok(messages::settled("/countersign/sampler", &actions, Utc::now()))
    }

    /// The families that execute at once although an audit is overdue by their rule.
    async fn overdue(&self, tx: &Transaction) -> Result<Vec<String>, StoreError> {
        let waiting = sampling_plans::waiting(tx).await?;
        if waiting.is_empty() {
            return Ok(vec![]);
        }
        let active = generation::read(tx).await?;
        let governed = self.governed.under(tx, &active).await?;
        let overdue = |waiting: &Waiting| {
            let rule = governed.configuration.policy.switching(&waiting.rule);
            rule.is_some_and(|rule| rule.caps.overdue(waiting.oldest).is_some())
        };
        Ok(waiting.into_iter().filter(overdue).map(|waiting| waiting.family).collect())
    }
}

#[async_trait]
impl Sweeper for SamplerSweep {
    fn answers(&self) -> Option<&str> {
        Some(FINDINGS)
    }

    fn input(&self) -> Option<&str> {
        Some(SETTLED)
    }

    async fn due(&mut self, tx: &Transaction, load: Load) -> Result<Vec<Outgoing>, StoreError> {
        let now = Utc::now();
        let mut due = if load.caught_up { self.settled(tx).await? } else { vec![] };
        for audit in sweeps::to_audit(tx, self.republish * load.backoff_factor).await? {
            due.push(messages::command("sampler", Command::RequestAudit { audit }, now));
        }
        for action in gold::due(tx).await? {
            due.push(messages::command("sampler", Command::OpenGold { action }, now));
        }
        for family in self.overdue(tx).await? {
            due.push(messages::command("sampler", Command::CheckCaps { family }, now));
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
    fn scans_overlap_the_one_before_and_go_back_to_the_mark_every_minute() {
        let (start, mut scans) = (Instant::now(), Scans::default());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(scans.reach(start), None);
        scans.note(start, None, false);
        assert_eq!(scans.reach(at(2)), Some(7.0));
        // The scan at 2 failed and was not noted.
        assert_eq!(scans.reach(at(4)), Some(9.0));
        scans.note(at(4), Some(9.0), false);
        assert_eq!(scans.reach(at(59)), Some(60.0));
        assert_eq!(scans.reach(at(60)), None);
    }

    #[test]
    fn after_a_find_the_next_full_scan_comes_soon() {
        let (start, mut scans) = (Instant::now(), Scans::default());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        scans.note(start, None, false);
        scans.note(at(10), Some(15.0), true);
        assert_eq!(scans.reach(at(11)), None);
        scans.note(at(11), None, true);
        assert_eq!(scans.reach(at(15)), Some(9.0));
        scans.note(at(15), Some(9.0), false);
        assert_eq!(scans.reach(at(16)), None, "the actions found may still have no draw");
        scans.note(at(16), None, false);
        assert_eq!(scans.reach(at(75)), Some(64.0));
    }
}
