//! Whether a sampling plan keeps its limit.

use anyhow::{Context as _, ensure};
use countersign_statistics::{
    sequential::{Lattice, average_run_length},
    simulated::{run_length, undetected},
    switching::{Plan, Wanted},
};

use super::stays;

/// Plays the sampling plan at constant error rates, and then agents and auditors that change.
pub(super) fn run(seed: u64, times: u32, wanted: Wanted) -> anyhow::Result<()> {
    let (lattice, h) = (Lattice::new(wanted.limit, 3.0 * wanted.limit), 20_f64.ln());
    let solved = average_run_length(&lattice, h, wanted.limit);
    let played = run_length(seed, &lattice, h, wanted.limit, 1_000 * times);
    println!("at the limit a CUSUM passes ln 20 after {played:.0} audits, {solved:.0} by the chain");

    let plan = Plan::solve(wanted).context("these limits")?;
    println!("{} clean approvals in a row clear a stratum", plan.clearance);
    let mut worst: f64 = 0.0;
    for n in 0..=24 {
        let p = 0.001 * 500_f64.powf(n as f64 / 24.0);
        let shares = stretches(seed + STRETCHES * n, 10_000 * times, &plan, p);
        let (share, error) = mean(&shares);
        println!("  {:7.3} % wrong: {:6.3} % undetected, ± {:.3}", 100.0 * p, 100.0 * share, 100.0 * error);
        worst = worst.max(share);
        ensure!(share <= wanted.aoql + 4.0 * error, "the limit does not hold");
    }
    println!("at worst {:.3} %, of {:.3} % allowed", 100.0 * worst, 100.0 * wanted.aoql);
    stays::run(seed, times, plan)
}

/// How many stretches a long run is played in: their differences show by how much chance moves the mean.
const STRETCHES: u64 = 20;

/// The shares of undetected errors in stretches of a long run.
fn stretches(seed: u64, actions: u32, plan: &Plan, p: f64) -> Vec<f64> {
    (seed..seed + STRETCHES).map(|seed| undetected(seed, plan, p, actions)).collect()
}

/// The mean and its standard error.
fn mean(shares: &[f64]) -> (f64, f64) {
    let count = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / count;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}
