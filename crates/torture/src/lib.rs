//! `cargo xtask torture`: faults from a seeded schedule, a history of all that clients and tools saw, and a check of it
//! against the promises.

mod broken;
mod check;
mod clients;
mod crashes;
mod fault;
mod history;
mod hostile;
mod inject;
mod latency;
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

use broken::Broken;
use run::Torture;

/// Arguments of `cargo xtask torture`.
#[derive(Args)]
#[command(long_about = "\
Lets agents, reviewers and auditors work while processes and servers are killed and stopped and wires are delayed, \
stalled, cut and torn, as a schedule says that follows from the seed. All the time an agent, a reviewer, an auditor and a \
tool send garbage beside the honest ones. Then everything is healed, and the history of what clients and tools saw is checked against the promises: what was confirmed ends and is answered, no effect without \
approval of the same content before it, also of what a stricter policy asks for that is applied meanwhile, one effect per \
action, a spending limit that holds, legal transitions, one reproducible draw per executed action, \
again, a ledger that verifies, a stream with the same entries and without a gap, and in quarantine what the database refuses. In the end there are no faults for a while: \
then 99 in 100 honest actions must be answered within five seconds, whatever the hostile clients send.\n\n\
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
    /// Torture a build in which something is broken, and succeed only if the checker finds that. In less than two minutes too
    /// little may be lost to be found
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "ack-first")]
    broken: Option<Broken>,
    /// Instead of following a schedule, have each worker die at every step of every lane: in its transactions, and before and
    /// after commit, publish, confirm, ack and effect
    #[arg(long, conflicts_with_all = ["broken", "minutes"])]
    crash_points: bool,
    /// On three RabbitMQ 4 nodes, which are parted and killed: installs a Debian 13 with them under target/, once. Needs root
    #[arg(long, conflicts_with = "crash_points")]
    cluster: bool,
}

/// How long the clients go on without faults.
const CALM_LEAST: Duration = Duration::from_secs(45);
const CALM_MOST: Duration = Duration::from_secs(120);

/// The feature of the build that has the points.
const CRASH_POINTS: &str = "crash-points";

/// Runs the torture; fails where a promise was violated.
pub async fn run(args: TortureArgs) -> anyhow::Result<ExitCode> {
    let binary = match (args.broken, args.crash_points) {
        (Some(broken), _) => build::featured(broken.feature())?,
        (None, true) => build::featured(CRASH_POINTS)?,
        (None, false) => build::binary(false)?,
    };
    let length = Duration::try_from_secs_f64(args.minutes * 60.0)?;
    let torture = Torture {
        binary,
        seed: args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
        length,
        rate: args.rate.clamp(0.1, 1_000.0),
        settle: Duration::from_secs(if args.broken.is_some() { 45 } else { 150 }),
        calm: (length / 10).clamp(CALM_LEAST, CALM_MOST),
        crash_points: args.crash_points,
        broken: args.broken,
        cluster: args.cluster,
    };
    let failures = interruptible(&torture).await?;
    if let Some(broken) = args.broken {
        let caught = failures.is_some_and(|failures| failures.contains(&broken.breaks()));
        println!("the broken build was {}", if caught { "caught" } else { "NOT caught" });
        return Ok(if caught { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Ok(if failures.is_some_and(|failures| failures.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs it for a minute, as a part of all tests: without a bound on the time of answers, because other tests may be running.
/// Returns whether nothing was violated.
pub async fn briefly(binary: PathBuf) -> anyhow::Result<bool> {
    let (length, settle) = (Duration::from_secs(60), Duration::from_secs(90));
    let (calm, crash_points, broken, cluster) = (Duration::ZERO, false, None, false);
    let torture = Torture { binary, seed: 1, length, rate: 8.0, settle, calm, crash_points, broken, cluster };
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
