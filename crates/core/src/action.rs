//! The states of an action and how it can end.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where an action stands. Stored in `actions.state`; the CHECK constraint there lists the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Received, not judged yet. Never stored: judging happens in the transaction that accepts it.
    Proposed,
    /// Waits for a human's decision.
    PendingApproval,
    /// May run by policy (and approval), but an operator's hold keeps its permit back.
    Held,
    /// A permit is out; nobody has claimed it.
    Authorised,
    /// Claimed by an executor: the tool may have been called.
    Executing,
    /// The tool answered that it was done.
    Succeeded,
    /// The tool answered that it was not done.
    Failed,
    /// Policy, the directory or the tool registry refused it.
    Denied,
    /// A human refused it.
    Rejected,
    /// Its time, or its approval's time, ran out before it was executed.
    Expired,
    /// The agent withdrew it.
    Cancelled,
    /// The tool may or may not have acted; a human finds out which.
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

    /// The outcome that agents are told, where the action has one.
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

/// The stored word is none of the known ones.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no state of an action; the database was written by another version of Countersign")]
pub struct UnknownState(pub String);

impl FromStr for State {
    type Err = UnknownState;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        State::ALL.into_iter().find(|state| state.as_str() == s).ok_or_else(|| UnknownState(s.into()))
    }
}

/// How an action ended, as its agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The tool did it.
    Succeeded,
    /// The tool did not do it.
    Failed,
    /// Policy, directory or tool registry refused it.
    Denied,
    /// A human refused it.
    Rejected,
    /// Time ran out before it was executed.
    Expired,
    /// The agent withdrew it.
    Cancelled,
    /// The tool may or may not have done it; a second outcome follows when a human has found out.
    InDoubt,
}
