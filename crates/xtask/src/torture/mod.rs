//! `cargo xtask torture`: faults from a seeded schedule, a history of all that clients and tools saw, and a check of it
//! against the promises.

mod check;
mod clients;
mod faults;
mod history;
mod report;
mod run;
mod schedule;
mod stored;
mod tools;
mod world;

use std::{process::ExitCode, time::Duration};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::build;

pub(crate) use run::Torture;

/// The torture.
#[derive(Args)]
#[command(long_about = "\
Lets agents, reviewers and auditors work while processes and servers are killed and stopped and wires are delayed, \
stalled, cut and torn, as a schedule says that follows from the seed. Then everything is healed, and the history of what \
clients and tools saw is checked against the promises: what was confirmed ends and is answered, no effect without \
approval of the same content before it, one effect per action, legal transitions, one throw of the coin per executed \
action, a ledger that verifies, a stream without a gap.\n\n\
Two processes of each role run on services of their own. A violation makes the command fail; it prints the command that \
runs the same faults again, and keeps history and logs. Timing differs between runs: try a seed more than once.")]
pub(crate) struct TortureArgs {
    /// Minutes under load and faults; settling comes on top
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The dice of schedule and clients; a random one if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Actions per second and agent; there are two agents
    #[arg(long, default_value_t = 8.0)]
    rate: f64,
    /// Torture a build that acks before it commits, and succeed only if the checker finds that
    #[arg(long)]
    broken: bool,
}

/// The feature of the build that breaks the rule.
const BROKEN: &str = "broken-ack-first";

pub(crate) async fn run(args: TortureArgs) -> anyhow::Result<ExitCode> {
    let binary = if args.broken { build::featured(BROKEN)? } else { build::binary(false)? };
    let torture = Torture {
        binary,
        seed: args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
        length: Duration::try_from_secs_f64(args.minutes * 60.0)?,
        rate: args.rate.clamp(0.1, 1_000.0),
        settle: Duration::from_secs(if args.broken { 45 } else { 150 }),
    };
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let violations = tokio::select! {
        done = torture.run() => done?,
        _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
        _ = terminate.recv() => return Ok(ExitCode::FAILURE),
    };
    if args.broken {
        let caught = violations > 0;
        println!("{}", if caught { "the broken build was caught" } else { "the broken build was NOT caught" });
        return Ok(if caught { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Ok(if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
