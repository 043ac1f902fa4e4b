//! `cargo xtask simulate`: verifies the promises of the statistics by large simulations.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use countersign_statistics::{
    sequential::{Lattice, average_run_length},
    simulated::{coverage, false_alarms, run_length, undetected},
    switching::{Plan, Wanted},
};

/// The simulations.
#[derive(Args)]
pub(crate) struct SimulateArgs {
    /// The dice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How much longer than in the tests
    #[arg(long, default_value_t = 10)]
    times: u32,
    /// The acceptable error rate
    #[arg(long, default_value_t = 0.02)]
    limit: f64,
    /// The share of executed actions that is audited
    #[arg(long, default_value_t = 0.1)]
    rate: f64,
    /// The share of all actions that may be wrong and undetected in the long run, whatever the error rate
    #[arg(long, default_value_t = 0.02)]
    aoql: f64,
    /// How many actions are executed at most before a verdict on one is known
    #[arg(long, default_value_t = 400)]
    lag: u32,
}

pub(crate) fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let share = coverage(args.seed, 1_000 * args.times);
    println!("95 % intervals over mixed strata cover the truth in {:.2} %", 100.0 * share);
    ensure!(share >= 0.95, "the intervals do not hold");

    let share = false_alarms(args.seed, args.limit, 1_000 * args.times, 1_000);
    println!("an e-process looked at after each of 1,000 audits is wrong in {:.2} %", 100.0 * share);
    ensure!(share <= 0.05, "the e-process does not hold");

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
        let share = undetected(args.seed + n as u64, &plan, p, 200_000 * args.times);
        println!("  {:7.3} % wrong: {:6.3} % undetected", 100.0 * p, 100.0 * share);
        worst = worst.max(share);
    }
    println!("at worst {:.3} %, of {:.3} % allowed", 100.0 * worst, 100.0 * args.aoql);
    ensure!(worst <= args.aoql, "the limit does not hold");
    Ok(ExitCode::SUCCESS)
}
