//! The states of an action and how it can end.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of an action. Stored in `actions.state`; the CHECK constraint there lists the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Received but not yet evaluated. Never stored: the transaction that accepts a proposal evaluates it.
    Proposed,
    /// Waits for a reviewer's decision.
    PendingApproval,
    /// Policy and approval allow it, but an operator's hold withholds its permit.
    Held,
    /// Its permit has been issued but not claimed.
    Authorised,
    /// Claimed by an executor: the tool may have been called.
    Executing,
    /// The tool did it.
    Succeeded,
    /// The tool did not do it.
    Failed,
    /// Policy, the directory or the tool registry refused it.
    Denied,
    /// A reviewer rejected it.
    Rejected,
    /// It or its approval request expired before execution.
    Expired,
    /// The agent withdrew it.
    Cancelled,
    /// The tool may or may not have acted; an auditor finds out which.
    InDoubt,
}

impl State {
    /// Every state, in the order of an action's life.
    pub const ALL: [State; 12] = [
        State::Proposed,
        State::PendingApproval,
        State::Held,
        State::Authorised,
        State::Executing,
        State::Succeeded,
        State::Failed,
        State::Denied,
        State::Rejected,
        State::Expired,
        State::Cancelled,
        State::InDoubt,
    ];

    /// The word used in the database, in messages and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Proposed => "proposed",
            State::PendingApproval => "pending_approval",
            State::Held => "held",
            State::Authorised => "authorised",
            State::Executing => "executing",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Denied => "denied",
            State::Rejected => "rejected",
            State::Expired => "expired",
            State::Cancelled => "cancelled",
            State::InDoubt => "in_doubt",
        }
    }

    /// The outcome reported to the agent; `None` while the action has not ended.
    pub fn outcome(self) -> Option<Outcome> {
        Some(match self {
            State::Succeeded => Outcome::Succeeded,
            State::Failed => Outcome::Failed,
            State::Denied => Outcome::Denied,
            State::Rejected => Outcome::Rejected,
            State::Expired => Outcome::Expired,
            State::Cancelled => Outcome::Cancelled,
            State::InDoubt => Outcome::InDoubt,
            State::Proposed | State::PendingApproval | State::Held | State::Authorised | State::Executing => {
                return None;
            }
        })
    }

    /// Whether the tool was, or may have been, called.
    pub fn executed(self) -> bool {
        matches!(self, State::Succeeded | State::Failed | State::InDoubt)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A stored word that is not a known state.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a state of an action; another version of Countersign wrote to this database")]
pub struct UnknownState(pub String);

impl FromStr for State {
    type Err = UnknownState;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        State::ALL.into_iter().find(|state| state.as_str() == s).ok_or_else(|| UnknownState(s.into()))
    }
}

/// How an action ended, as reported to its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The tool did it.
    Succeeded,
    /// The tool did not do it.
    Failed,
    /// Policy, directory or tool registry refused it.
    Denied,
    /// A reviewer rejected it.
    Rejected,
    /// It expired before execution.
    Expired,
    /// The agent withdrew it.
    Cancelled,
    /// The tool may or may not have done it; a second outcome follows when an auditor has found out.
    InDoubt,
}
