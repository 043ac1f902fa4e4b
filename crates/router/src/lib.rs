//! The router: an action from proposal to permit. It validates, deduplicates, evaluates policy, opens
//! approvals, applies decisions and deadlines, and signs permits.
//!
//! **No side-effect code is linked here**, and no tool's credential: the worst that a broken router can do to the
//! outside is to sign a permit, and the executor checks once more whether to use it.

mod agent_queues;
mod cancel;
mod command;
mod compensate;
mod context;
mod dead_letter;
mod decide;
mod eligibility;
mod escalation;
mod evaluated;
mod evaluation;
mod inbound;
mod incoming;
mod intake;
mod limit_usage;
mod outgoing_messages;
mod quota;
mod reevaluate;
mod shared;
mod sweep;
mod turn;
mod write_set;

use std::sync::Arc;

use countersign_broker::topology::{ACTIONS, DECISIONS, QUARANTINE, commands_queue};
use countersign_runtime::process::{self, Input, Process};
use tokio::task::JoinSet;

pub use shared::Keys;
use shared::Router;

/// Runs a router until its process is stopped and drained.
pub async fn run(process: Process, keys: Keys) {
    let router = Router { process: process.clone(), keys: Arc::new(keys) };
    let mut tasks = JoinSet::new();
    let queues = agent_queues::follow(&process, &mut tasks);
    for index in 0..process.settings.lanes.per_process {
        let intake = intake::Intake::new(router.clone());
        process.lane_of(&mut tasks, Input::of(ACTIONS, &queues), index, process.batches(), intake);
        process.lane(&mut tasks, DECISIONS, index, decide::Decisions { router: router.clone() });
    }
    process.lane(&mut tasks, &commands_queue("router"), 0, command::Commands { router: router.clone() });
    process.lane(&mut tasks, QUARANTINE, 0, dead_letter::DeadLetters { process: process.clone() });
    tasks.spawn(countersign_runtime::sweep::run(process.clone(), sweep::RouterSweep::new(&process)));
    tasks.spawn(countersign_runtime::sweep::run(process.clone(), turn::Turns::new(&process)));
    process::drain(tasks, process.stop.clone()).await;
}
