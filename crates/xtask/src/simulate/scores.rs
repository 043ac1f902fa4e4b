//! Whether the difference estimator's intervals cover the truth, and how many audits a score saves.

use anyhow::ensure;
use countersign_policy::AuditSpec;
use countersign_statistics::simulated::scores::Scored;

use super::chance;

/// How many actions, of how many populations.
const ACTIONS: u32 = 10_000;
const POPULATIONS: u32 = 20;

/// The least coverage of a 95 % interval.
const LEAST: f64 = 0.94;

pub(super) fn run(seed: u64, times: u32) -> anyhow::Result<()> {
    let runs = 10 * times;
    let audit = AuditSpec { rate: 0.05, floor: 0.05, ceiling: 0.5, at_least: 0, group: String::new() };
    println!(
        "drawn by a score, of {ACTIONS} actions each with π from {} to {}, 95 % intervals of the difference estimator:",
        audit.rate, audit.ceiling
    );
    for rate in [0.001, 0.005, 0.02, 0.1] {
        for area in [0.5, 0.9] {
            let pi = |score| audit.scored(Some(score));
            let played = Scored { actions: ACTIONS, rate, area, pi }.play(seed, POPULATIONS, runs);
            println!(
                "  {:4.1} % wrong, AUC {area}: {:6.2} % covered, {:.2} % wide; {:.0} audits are worth {:.0} without a score: \
                 {:.0} saved, {:.2} times",
                100.0 * rate,
                100.0 * played.covered,
                100.0 * played.width,
                played.audits,
                played.uniform,
                played.uniform - played.audits,
                played.uniform / played.audits,
            );
            let least = LEAST - chance::of(LEAST, POPULATIONS * runs);
            ensure!(played.covered >= least, "the difference estimator's interval does not hold");
        }
    }
    Ok(())
}
