//! Messages between Countersign's own processes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ActionId, AuditId};

/// `countersign.settled.pack.v1`: actions that have ended and whose outcomes the broker has confirmed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SettledPack {
    /// At most 64.
    pub actions: Vec<ActionId>,
}

/// `countersign.command.v1`: asks the worker that owns a transition to check whether it is due. Carries no authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// To the router: evaluate the action again, or expire it if its deadline has passed.
    Reevaluate {
        /// The action.
        action: ActionId,
    },
    /// To the router: publish an open approval request again.
    RequestApproval {
        /// The action.
        action: ActionId,
    },
    /// To the router: the turn of a proposal has come that has waited because its agent was over its quotas.
    Admit {
        /// Its id in the table of waiting proposals.
        waiting: i64,
    },
    /// To the router: process a quarantined message again.
    Replay {
        /// Its id in the quarantine table.
        quarantine: i64,
    },
    /// To the executor: the claim's lease has expired.
    Recover {
        /// The action.
        action: ActionId,
    },
    /// To the executor: the interrupted call must not be repeated.
    Abandon {
        /// The action.
        action: ActionId,
    },
    /// To the executor: publish the stored outcome to the agent, and hand the action to the sampler.
    Notify {
        /// The action.
        action: ActionId,
    },
    /// To the router: propose the compensation that an auditor has requested.
    Compensate {
        /// The action to be undone.
        action: ActionId,
    },
    /// To the sampler: a sampling epoch has ended; reveal its key.
    RevealEpoch {
        /// The epoch.
        epoch: i64,
    },
    /// To the sampler: a gold item that an action's audit has drawn is due.
    OpenGold {
        /// The action.
        action: ActionId,
    },
    /// To the sampler: an audit seems to be overdue of what an agent has executed at once under a rule.
    CheckCaps {
        /// The family of strata: rule, tool and agent.
        family: String,
    },
    /// To the sampler: publish an open audit again.
    RequestAudit {
        /// The audit.
        audit: AuditId,
    },
}
