//! `cargo xtask simulate`: verifies the promises of the statistics by large simulations.

mod airline;
mod chance;
mod comparisons;
mod intervals;
mod scores;
mod stays;
mod switching;

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use clap::Args;
use countersign_statistics::{
    simulated::{
        adversary::{AGENTS, ever_exceeded},
        false_alarms,
    },
    switching::Wanted,
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
    let wanted = Wanted { limit: args.limit, pi: args.rate, aoql: args.aoql, lag: args.lag };
    switching::run(args.seed, args.times, wanted)?;
    Ok(ExitCode::SUCCESS)
}
