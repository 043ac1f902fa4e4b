//! The router: an action from proposal to permit. It validates, deduplicates, evaluates policy, opens
//! approvals, applies decisions and deadlines, and signs permits.
//!
//! **No side-effect code is linked here**, and no credential of any tool: the worst that a broken router can
//! do to the outside is to sign a permit, and whether that is used is decided once more by the executor.

mod cancel;
mod command;
mod compensate;
mod dead_letter;
mod decide;
mod eligibility;
mod escalation;
mod evaluation;
mod intake;
mod limit_usage;
mod outgoing_messages;
mod reevaluate;
mod sweep;
mod write_set;

use std::{path::Path, sync::Arc};

use countersign_broker::topology::{ACTIONS, DECISIONS, QUARANTINE, commands_queue};
use countersign_core::keyed::Pseudonyms;
use countersign_runtime::{
    keys::{self, KeyError, file},
    process::{self, Process},
};
use ed25519_dalek::SigningKey;
use tokio::task::JoinSet;

/// What the router knows that others don't.
#[derive(Clone)]
pub struct Keys {
    /// Signs permits.
    pub permit: SigningKey,
    /// Names people in evidence.
    pub pseudonyms: Pseudonyms,
}

impl Keys {
    /// Reads `permit.jwk` and `pseudonym.secret` in `dir`.
    pub fn read(dir: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            permit: keys::signing_key(&dir.join(file::PERMIT_KEY))?,
            pseudonyms: Pseudonyms::new(&keys::secret(&dir.join(file::PSEUDONYM))?),
        })
    }
}

/// What the router's lanes share.
#[derive(Clone)]
pub(crate) struct Router {
    pub(crate) process: Process,
    pub(crate) keys: Arc<Keys>,
}

/// Runs a router until its process is stopped and drained.
pub async fn run(process: Process, keys: Keys) {
    let router = Router { process: process.clone(), keys: Arc::new(keys) };
    let mut tasks = JoinSet::new();
    for index in 0..process.settings.lanes.per_process {
        process.lane(&mut tasks, ACTIONS, index, intake::Intake { router: router.clone() });
        process.lane(&mut tasks, DECISIONS, index, decide::Decisions { router: router.clone() });
    }
    process.lane(&mut tasks, &commands_queue("router"), 0, command::Commands { router: router.clone() });
    process.lane(&mut tasks, QUARANTINE, 0, dead_letter::DeadLetters { process: process.clone() });
    tasks.spawn(countersign_runtime::sweep::run(process.clone(), sweep::RouterSweep::new(&process)));
    process::drain(tasks, process.stop.clone()).await;
}
