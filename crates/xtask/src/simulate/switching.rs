//! Whether a sampling plan keeps its limit.

use anyhow::{Context as _, ensure};
use countersign_statistics::{
    sequential::{Lattice, average_run_length},
    simulated::{run_length, undetected},
    switching::{Plan, Wanted},
};

use super::{SimulateArgs, stays};

/// Plays the sampling plan at constant error rates, and then agents and auditors that change.
pub(super) fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    let (lattice, h) = (Lattice::new(args.limit, 3.0 * args.limit), 20_f64.ln());
    let solved = average_run_length(&lattice, h, args.limit);
    let played = run_length(args.seed, &lattice, h, args.limit, 1_000 * args.times);
    println!("at the limit a CUSUM passes ln 20 after {played:.0} audits, {solved:.0} by the chain");

    let wanted = Wanted { limit: args.limit, pi: args.rate, aoql: args.aoql, lag: args.lag };
    let plan = Plan::solve(wanted).context("these limits")?;
    println!("{} clean approvals in a row clear a stratum", plan.clearance);
    let mut worst: f64 = 0.0;
    for n in 0..=24 {
        let p = 0.001 * 500_f64.powf(f64::from(n) / 24.0);
        let shares = stretches(args, &plan, p, n);
        let (share, error) = mean(&shares);
        println!("  {:7.3} % wrong: {:6.3} % undetected, ± {:.3}", 100.0 * p, 100.0 * share, 100.0 * error);
        worst = worst.max(share);
        ensure!(share <= args.aoql + 4.0 * error, "the limit does not hold");
    }
    println!("at worst {:.3} %, of {:.3} % allowed", 100.0 * worst, 100.0 * args.aoql);
    stays::run(args, plan)
}

/// How many stretches a long run is played in: their differences show by how much chance moves the mean.
const STRETCHES: u64 = 20;

/// The shares of undetected errors in stretches of a long run.
fn stretches(args: &SimulateArgs, plan: &Plan, p: f64, n: u32) -> Vec<f64> {
    let seeds = (0..STRETCHES).map(|stretch| args.seed + STRETCHES * u64::from(n) + stretch);
    seeds.map(|seed| undetected(seed, plan, p, 10_000 * args.times)).collect()
}

/// The mean and its standard error.
fn mean(shares: &[f64]) -> (f64, f64) {
    let count = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / count;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}
