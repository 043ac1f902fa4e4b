//! `cargo xtask simulate`: verifies the promises of the statistics by large simulations.

mod airline;
mod chance;
mod comparisons;
mod intervals;
mod scores;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::Args;
use countersign_statistics::{
    sequential::{Lattice, average_run_length},
    simulated::{
        adversary::{AGENTS, ever_exceeded},
        false_alarms, run_length, undetected,
    },
    switching::{Plan, Wanted},
};

/// The simulations.
#[derive(Args)]
pub(crate) struct SimulateArgs {
    /// The dice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How much longer than in the tests
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    times: u32,
    /// The acceptable error rate
    #[arg(long, default_value_t = 0.02)]
    limit: f64,
    /// The share of executed actions that is audited
    #[arg(long, default_value_t = 0.1)]
    rate: f64,
    /// The share of all actions that may be wrong and undetected in the long run, at any constant error rate
    #[arg(long, default_value_t = 0.02)]
    aoql: f64,
    /// How many actions are executed at most before a verdict on one is known
    #[arg(long, default_value_t = 400)]
    lag: u32,
    /// Instead of all that, play the recording in this folder through the running system under twenty sampling secrets, and
    /// see whether the report's intervals cover what its labels say
    #[arg(long, value_name = "FOLDER")]
    airline: Option<PathBuf>,
}

pub(crate) async fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.airline {
        airline::run(folder).await?;
        return Ok(ExitCode::SUCCESS);
    }
    intervals::run(args.seed, args.times)?;
    scores::run(args.seed, args.times)?;

    let runs = 1_000 * args.times;
    let share = false_alarms(args.seed, args.limit, runs, 1_000);
    println!("an e-process looked at after each of 1,000 audits is wrong in {:.2} %", 100.0 * share);
    ensure!(share <= 0.05 + chance::of(0.05, runs), "the e-process does not hold");

    let runs = 200 * args.times;
    println!("looked at on 100 evenings, the bound at any time is ever exceeded by an agent that errs");
    for agent in AGENTS {
        let share = ever_exceeded(args.seed, agent, runs, 100);
        println!(
            "  in {:3.0} % of its actions while it is lucky and in {:3.0} % otherwise, found {:2} actions later: {:.2} %",
            100.0 * agent.lucky,
            100.0 * agent.otherwise,
            agent.delay,
            100.0 * share
        );
        ensure!(share <= 0.05 + chance::of(0.05, runs), "the bound at any time does not hold");
    }

    comparisons::run(args.seed, args.times)?;
    switching(args)
}

fn switching(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
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
    Ok(ExitCode::SUCCESS)
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
