//! The executor: an action from permit to outcome. It verifies the permit, claims the action (first commit),
//! calls the tool, records the outcome (second commit) and publishes it.
//!
//! **The only process that holds outside credentials, and it holds no signing key.** It trusts neither the
//! permit nor the database alone: both must say yes. No row lock is held across a call.

mod call;
mod claim;
mod command;
pub mod connector;
mod record;
mod shared;
mod sweep;
mod tools;

use std::sync::Arc;

use countersign_broker::topology::{EXECUTION, commands_queue};
use countersign_core::permit::PACK_MAX;
use countersign_runtime::process::{self, Batches, Input, Process};
use tokio::{sync::mpsc, task::JoinSet};

use self::shared::Executor;
pub use self::shared::Keys;

/// Runs an executor until its process is stopped and drained: calls that are under way end first.
pub async fn run(process: Process, keys: Keys) {
    let (settled, results) = mpsc::unbounded_channel();
    let calls = call::Calls::new(&process, settled);
    let executor = Executor { process: process.clone(), keys: Arc::new(keys), calls };
    let settings = &process.settings;
    // A delivery holds up to a pack of permits; together a lane's batch must fit the calls that may run.
    let lanes = u32::from(settings.lanes.per_process);
    let packs = (settings.limits.calls / PACK_MAX as u32 / lanes).clamp(1, 16) as u16;
    let batches = Batches { batch_max: packs, linger: settings.lanes.linger };
    let mut tasks = JoinSet::new();
    for index in 0..settings.lanes.per_process {
        process.lane_of(
            &mut tasks,
            Input::queue(EXECUTION),
            index,
            batches,
            claim::Claims::new(executor.clone()),
        );
    }
    let commands = command::Commands { executor: executor.clone() };
    process.lane(&mut tasks, &commands_queue("executor"), 0, commands);
    tasks.spawn(countersign_runtime::sweep::run(process.clone(), sweep::ExecutorSweep::new(&process)));
    tasks.spawn(record::run(process.clone(), results));
    // The recorder ends when the last lane and the last call have dropped their ends of its channel.
    drop(executor);
    process::drain(tasks, process.stop.clone()).await;
}
