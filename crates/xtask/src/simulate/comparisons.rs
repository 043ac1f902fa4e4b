//! Whether groups are flagged rightly, and corrected rates are true.

use anyhow::ensure;
use countersign_statistics::simulated::comparisons::{Auditors, corrected, flagged};

use super::chance;

/// Known items of each kind that auditors have judged.
const KNOWN: u64 = 100;

pub(super) fn run(seed: u64, times: u32) -> anyhow::Result<()> {
    let runs = 100 * times;
    println!("of ten groups compared with another one every evening for 100 days, ten audits each a day:");
    for rate in [0.02, 0.05, 0.1, 0.2] {
        let [first, others] = flagged(seed, rate, rate, runs, 100);
        let [found, falsely] = flagged(seed, rate, 2.0 * rate, runs, 100);
        println!(
            "  {:4.0} % wrong: {:.2} % of runs flag one; {:.1} % flag one at twice the rate, {:.2} % another",
            100.0 * rate,
            100.0 * (first + others),
            100.0 * found,
            100.0 * falsely
        );
        ensure!(first + others <= 0.05 + chance::of(0.05, runs), "too many groups are flagged");
    }

    let runs = 1_000 * times;
    println!("with {KNOWN} known items of each kind, corrected 95 % intervals cover the truth:");
    for (sensitivity, specificity) in [(0.8, 0.995), (0.9, 0.98), (0.95, 0.95), (0.7, 0.99)] {
        let auditors = Auditors { sensitivity, specificity };
        let share = |rate: f64| corrected(seed, rate, auditors, [500, KNOWN], runs);
        let shares = [0.001, 0.005, 0.02, 0.05, 0.1, 0.3].map(|rate| (rate, share(rate)));
        let line = shares.map(|(rate, share)| format!("{:.2} % at {:.1} %", 100.0 * share, 100.0 * rate));
        println!("  sensitivity {sensitivity}, specificity {specificity}: {}", line.join(", "));
        let least = 0.94 - chance::of(0.94, runs);
        ensure!(shares.iter().all(|(_, share)| *share >= least), "corrected rates do not hold");
    }
    Ok(())
}
