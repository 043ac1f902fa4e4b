//! `cargo xtask torture`: faults from a seeded schedule, a history of all that clients and tools saw, and a check of it
//! against the promises.

mod check;
mod clients;
mod crashes;
mod fault;
mod history;
mod inject;
mod report;
mod run;
mod schedule;
mod stored;
mod tools;
mod world;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use countersign_testkit::build;

use check::KEPT;
use run::Torture;

/// Arguments of `cargo xtask torture`.
#[derive(Args)]
#[command(long_about = "\
Lets agents, reviewers and auditors work while processes and servers are killed and stopped and wires are delayed, \
stalled, cut and torn, as a schedule says that follows from the seed. Then everything is healed, and the history of what \
clients and tools saw is checked against the promises: what was confirmed ends and is answered, no effect without \
approval of the same content before it, also of what a stricter policy asks for that is applied meanwhile, one effect per \
action, a spending limit that holds, legal transitions, one reproducible draw per executed action, \
again, a ledger that verifies, a stream with the same entries and without a gap.\n\n\
Two processes of each role run on services of their own. A violation makes the command fail; it prints the command that \
runs the same faults again, and keeps history and logs. Timing differs between runs: try a seed more than once.")]
pub struct TortureArgs {
    /// Minutes under load and faults; settling comes on top
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The dice of schedule and clients; a random one if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Actions per second and agent; there are two agents
    #[arg(long, default_value_t = 8.0)]
    rate: f64,
    /// Torture a build that acks before it commits, and succeed only if the checker finds that. In less than two minutes too
    /// little may be lost to be found
    #[arg(long)]
    broken: bool,
    /// Instead of following a schedule, have each worker die at every step of every lane: in its transactions, and before and
    /// after commit, publish, confirm, ack and effect
    #[arg(long, conflicts_with_all = ["broken", "minutes"])]
    crash_points: bool,
    /// On three RabbitMQ 4 nodes, which are parted and killed: installs a Debian 13 with them under target/, once. Needs root
    #[arg(long, conflicts_with = "crash_points")]
    cluster: bool,
}

/// The feature of the build that acks before it commits.
const BROKEN: &str = "broken-ack-first";

/// The feature of the build that has the points.
const CRASH_POINTS: &str = "crash-points";

/// Runs the torture; fails where a promise was violated.
pub async fn run(args: TortureArgs) -> anyhow::Result<ExitCode> {
    let binary = match (args.broken, args.crash_points) {
        (true, _) => build::featured(BROKEN)?,
        (_, true) => build::featured(CRASH_POINTS)?,
        _ => build::binary(false)?,
    };
    let torture = Torture {
        binary,
        seed: args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
        length: Duration::try_from_secs_f64(args.minutes * 60.0)?,
        rate: args.rate.clamp(0.1, 1_000.0),
        settle: Duration::from_secs(if args.broken { 45 } else { 150 }),
        crash_points: args.crash_points,
        broken: args.broken,
        cluster: args.cluster,
    };
    let failures = interruptible(&torture).await?;
    if args.broken {
        // Only a lost message counts, not a late one: it was acked before it was stored.
        let caught = failures.is_some_and(|failures| failures.contains(&KEPT));
        println!("the broken build was {}", if caught { "caught" } else { "NOT caught" });
        return Ok(if caught { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Ok(if failures.is_some_and(|failures| failures.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs it for a minute, as a part of all tests. Returns whether nothing was violated.
pub async fn briefly(binary: PathBuf) -> anyhow::Result<bool> {
    let (length, settle) = (Duration::from_secs(60), Duration::from_secs(90));
    let (crash_points, broken, cluster) = (false, false, false);
    let torture = Torture { binary, seed: 1, length, rate: 8.0, settle, crash_points, broken, cluster };
    Ok(interruptible(&torture).await?.is_some_and(|failures| failures.is_empty()))
}

/// Runs it. `None` if interrupted; then everything that it had started is stopped.
async fn interruptible(torture: &Torture) -> anyhow::Result<Option<Vec<&'static str>>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = torture.run() => done.map(Some),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
    }
}
