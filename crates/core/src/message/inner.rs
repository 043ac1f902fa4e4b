//! What travels between our own processes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ActionId, AuditId};

/// `countersign.settled.pack.v1`: actions that have ended, and whose outcomes have been confirmed to their agents.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SettledPack {
    /// Up to 64.
    pub actions: Vec<ActionId>,
}

/// `countersign.command.v1`: asks the owner of a transition to look again. Carries no authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// To the router: judge the action again, or expire it if its time is up.
    Judge {
        /// Which.
        action: ActionId,
    },
    /// To the router: publish an open approval request again.
    RequestApproval {
        /// Whose.
        action: ActionId,
    },
    /// To the router: take in a quarantined message again.
    Replay {
        /// Row of the quarantine table.
        quarantine: i64,
    },
    /// To the executor: the claim's lease ran out.
    Recover {
        /// Which.
        action: ActionId,
    },
    /// To the executor: the interrupted call may not be made again.
    Abandon {
        /// Which.
        action: ActionId,
    },
    /// To the executor: tell agent and sampler the stored outcome again.
    Answer {
        /// Which.
        action: ActionId,
    },
    /// To the router: propose what undoes an action, as an auditor has asked.
    Compensate {
        /// Which is to be undone.
        action: ActionId,
    },
    /// To the sampler: an epoch of the coin has closed; reveal its key.
    RevealEpoch {
        /// Which.
        epoch: i64,
    },
    /// To the sampler: publish an open audit again.
    RequestAudit {
        /// Which.
        audit: AuditId,
    },
}
