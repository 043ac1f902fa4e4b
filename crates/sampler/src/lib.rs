//! The sampler: an action after its outcome. It makes the sampling draw for every executed action, runs the audit queue and
//! applies findings.
//!
//! **The only process that holds the sampling secret.** The executor hands an action over when the broker has confirmed
//! its outcome; the sampler's own sweep finds what is lost on the way.

mod command;
mod draw;
mod finding;
mod gold;
mod sample;
mod shared;
mod sweep;
mod switching;

use std::{sync::Arc, time::Duration};

use countersign_broker::topology::{FINDINGS, SETTLED, commands_queue};
use countersign_runtime::process::{self, Batches, Input, Process};
use tokio::task::JoinSet;

pub use self::shared::Keys;
use self::shared::Sampler;

/// The minimum linger of the settled lane. Nothing waits for a draw, so at a low rate one commit for several packs
/// leaves the disk to transactions that somebody waits for.
const LINGER: Duration = Duration::from_millis(200);

/// Runs a sampler until its process is stopped and drained.
pub async fn run(process: Process, keys: Keys) {
    let sampler = Sampler { process: process.clone(), keys: Arc::new(keys) };
    let mut tasks = JoinSet::new();
    let lanes = &process.settings.lanes;
    // A delivery holds up to 64 actions, so a few make a batch.
    let batches = Batches { batch_max: lanes.batch_max.div_ceil(32), linger: lanes.linger.max(LINGER) };
    for index in 0..process.settings.lanes.per_process {
        process.lane_of(
            &mut tasks,
            Input::queue(SETTLED),
            index,
            batches,
            sample::Samples { sampler: sampler.clone() },
        );
    }
    process.lane(&mut tasks, FINDINGS, 0, finding::Findings { sampler: sampler.clone() });
    let commands = command::Commands { sampler: sampler.clone() };
    process.lane(&mut tasks, &commands_queue("sampler"), 0, commands);
    tasks.spawn(countersign_runtime::sweep::run(process.clone(), sweep::SamplerSweep::new(&process)));
    process::drain(tasks, process.stop.clone()).await;
}
