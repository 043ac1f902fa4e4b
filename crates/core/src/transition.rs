//! The state machine of an action: one pure function, mirrored by the CHECK constraints of the database.

use chrono::{DateTime, Utc};

use crate::{action::State, verdict::Verdict};

/// What a transition depends on besides the event.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The action's state.
    pub state: State,
    /// Whether a human has approved exactly what is stored.
    pub approved: bool,
    /// When the action itself expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the open approval request expires.
    pub approval_expires_at: Option<DateTime<Utc>>,
}

/// What happens to an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The policy evaluated it, for the first time or again.
    Evaluated {
        /// The policy's verdict.
        verdict: Verdict,
        /// Whether an active hold covers it.
        held: bool,
    },
    /// A human with the authority approved it.
    Approved {
        /// Whether an active hold covers it.
        held: bool,
    },
    /// A human with the authority rejected it.
    Rejected,
    /// Its agent withdrew it.
    Cancelled,
    /// A deadline may have passed.
    Lapsed,
    /// An executor claims it with a valid permit.
    Claimed,
    /// The tool answered, or the attempts ended without an answer.
    Completed(Completion),
    /// The claim's lease expired without a result. To be repeated, the call needs a new permit, as the policy may no
    /// longer allow it.
    Interrupted {
        /// Whether the tool honours idempotency keys.
        idempotent: bool,
    },
    /// A human found out whether an action in doubt took effect.
    Resolved {
        /// Whether it did.
        succeeded: bool,
    },
}

/// How a call of a tool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Done.
    Succeeded,
    /// Certainly not done.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// What follows from a transition, in this order, after it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask a human.
    OpenApproval,
    /// No decision is needed any longer.
    CloseApproval,
    /// Sign a permit and send it to the executor.
    IssuePermit,
    /// Call the tool.
    CallTool,
    /// Send the agent its outcome.
    Answer,
    /// Hand it to the sampler.
    Sample,
}

/// The event is illegal in this state: nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// The state machine has no such transition.
    #[error("{event:?} is not allowed in state {state}")]
    NoArrow {
        /// The action's state.
        state: State,
        /// What was attempted.
        event: Event,
    },
    /// The deadline has not passed yet.
    #[error("no deadline has passed")]
    NotYet,
}

/// The state after `event` at `now`, and what follows from it.
///
/// `now` is the database's clock under the action's row lock. A deadline that has passed wins over every event, so a late approval or a late permit never executes.
pub fn transition(
    standing: &Standing,
    event: Event,
    now: DateTime<Utc>,
) -> Result<(State, Vec<Effect>), Illegal> {
    use Effect::*;
    let state = standing.state;
    let open = matches!(state, State::Proposed | State::PendingApproval | State::Held | State::Authorised);
    if open && lapsed(standing, now) {
        return Ok((State::Expired, closing(state)));
    }
    match (state, event) {
        (
            State::Proposed | State::PendingApproval | State::Held | State::Authorised,
            Event::Evaluated { verdict, held },
        ) => Ok(evaluated(standing, verdict, held)),
        (State::PendingApproval, Event::Approved { held: false }) => {
            Ok((State::Authorised, vec![CloseApproval, IssuePermit]))
        }
        (State::PendingApproval, Event::Approved { held: true }) => Ok((State::Held, vec![CloseApproval])),
        (State::PendingApproval, Event::Rejected) => Ok((State::Rejected, vec![CloseApproval, Answer])),
        (State::Proposed | State::PendingApproval | State::Held | State::Authorised, Event::Cancelled) => {
            Ok((State::Cancelled, closing(state)))
        }
        (State::PendingApproval | State::Held | State::Authorised, Event::Lapsed) => Err(Illegal::NotYet),
        (State::Authorised, Event::Claimed) => Ok((State::Executing, vec![CallTool])),
        (State::Executing, Event::Completed(completion)) => Ok((
            match completion {
                Completion::Succeeded => State::Succeeded,
                Completion::Failed => State::Failed,
                Completion::Unknown => State::InDoubt,
            },
            vec![Answer, Sample],
        )),
        (State::Executing, Event::Interrupted { idempotent: true }) => {
            Ok((State::Executing, vec![IssuePermit]))
        }
        (State::Executing, Event::Interrupted { idempotent: false }) => {
            Ok((State::InDoubt, vec![Answer, Sample]))
        }
        (State::InDoubt, Event::Resolved { succeeded: true }) => Ok((State::Succeeded, vec![Answer])),
        (State::InDoubt, Event::Resolved { succeeded: false }) => Ok((State::Failed, vec![Answer])),
        (state, event) => Err(Illegal::NoArrow { state, event }),
    }
}

/// Whether a deadline that applies in this state has passed: the action's own until it is claimed, the request's while
/// it is open.
fn lapsed(standing: &Standing, now: DateTime<Utc>) -> bool {
    let past = |deadline: Option<DateTime<Utc>>| deadline.is_some_and(|at| now >= at);
    past(standing.expires_at)
        || (standing.state == State::PendingApproval && past(standing.approval_expires_at))
}

/// A verdict never loosens what a human is already asked about: a pending request stays pending under
/// `allow`, and an approval already given still counts under `require_approval`.
fn evaluated(standing: &Standing, verdict: Verdict, held: bool) -> (State, Vec<Effect>) {
    let pending = standing.state == State::PendingApproval;
    match verdict {
        Verdict::Deny => (State::Denied, closing(standing.state)),
        Verdict::RequireApproval if !standing.approved => {
            (State::PendingApproval, vec![Effect::OpenApproval])
        }
        Verdict::Allow if pending => (State::PendingApproval, vec![Effect::OpenApproval]),
        Verdict::Allow | Verdict::RequireApproval if held => (State::Held, vec![]),
        Verdict::Allow | Verdict::RequireApproval => (State::Authorised, vec![Effect::IssuePermit]),
    }
}

/// The effects of ending an action that was not executed.
fn closing(state: State) -> Vec<Effect> {
    match state {
        State::PendingApproval => vec![Effect::CloseApproval, Effect::Answer],
        _ => vec![Effect::Answer],
    }
}

#[cfg(test)]
mod tests;
