//! An approval request: who must approve, who may decide, until when, and what a decision does to it.
//!
//! **A request is satisfied only by distinct people who fill every required place, on the exact digest that the
//! request shows.** Everything that can happen to a request goes through [`Request::apply`].

mod spec;

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use spec::{ApprovalSpec, Escalation, Requirement};

use crate::{person::Persons, refusal::Code};

/// What a reviewer can decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Execute exactly this.
    Approve,
    /// Do not execute it.
    Reject,
    /// Execute it with changed arguments, which the decision carries and the policy evaluates again.
    Edit,
    /// Do not execute it, and send the agent a message: it may propose again.
    Respond,
}

/// A person's decision that counts on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The decision.
    pub decision: Decision,
    /// When it was signed, as the signed statement says.
    pub signed_at: DateTime<Utc>,
}

impl Vote {
    /// Orders what one person has signed: what was signed later counts and, of what was signed at the same time, what
    /// is further from executing the content as it is. So the order of arrival decides nothing.
    pub fn precedence(&self) -> (DateTime<Utc>, u8) {
        let caution = match self.decision {
            Decision::Approve => 0,
            Decision::Edit => 1,
            Decision::Respond => 2,
            Decision::Reject => 3,
        };
        (self.signed_at, caution)
    }
}

impl Decision {
    /// Every decision.
    pub const ALL: [Decision; 4] = [Decision::Approve, Decision::Reject, Decision::Edit, Decision::Respond];

    /// The word used in the database, in messages and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Approve => "approve",
            Decision::Reject => "reject",
            Decision::Edit => "edit",
            Decision::Respond => "respond",
        }
    }
}

/// The state of a request. Stored in `approvals.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestState {
    /// Waits for decisions.
    Open,
    /// Its quorum is complete.
    Approved,
    /// Enough reviewers have rejected it, or one has responded.
    Rejected,
    /// It expired.
    Expired,
    /// No decision is needed any more: another request has replaced it, or the action has ended.
    Closed,
}

impl RequestState {
    /// Every state.
    pub const ALL: [RequestState; 5] = [
        RequestState::Open,
        RequestState::Approved,
        RequestState::Rejected,
        RequestState::Expired,
        RequestState::Closed,
    ];

    /// The word used in the database and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Closed => "closed",
        }
    }
}

/// A stored word that is not a known state.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a state of an approval request; another version of Countersign wrote to this database")]
pub struct UnknownRequestState(String);

impl FromStr for RequestState {
    type Err = UnknownRequestState;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == s).ok_or_else(|| UnknownRequestState(s.into()))
    }
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestEvent {
    /// A person decides on the content with this digest. The caller has checked that they may.
    Decided {
        /// The reviewer's id.
        reviewer: String,
        /// The decision.
        decision: Decision,
        /// The digest that the reviewer saw.
        digest: [u8; 32],
        /// When it was signed.
        signed_at: DateTime<Utc>,
    },
    /// A deadline may have passed.
    Lapsed,
    /// The agent withdrew the action, or policy ended it.
    Closed,
    /// A new policy also requires approval: from now on the stricter of both applies.
    Asked(ApprovalSpec),
}

/// Why an event has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The request has ended.
    #[error("the request is {}", .0.as_str())]
    NotOpen(RequestState),
    /// The deadline has passed: the request has just become [`RequestState::Expired`].
    #[error("the request expired before the decision was applied")]
    Expired,
    /// The reviewer saw other content.
    #[error("the digest does not match what would be executed")]
    DigestMismatch,
    /// The rule does not allow this kind of decision.
    #[error("the rule does not allow {}", .0.as_str())]
    NotAllowed(Decision),
    /// The same person has decided differently, in a statement that was signed later.
    #[error("you have decided this request differently since this was signed")]
    Superseded,
    /// The person has edited the action, and the rule does not count an edit as an approval.
    #[error("you have edited this action, so others must approve it")]
    Editor,
    /// No deadline has passed.
    #[error("no deadline has passed")]
    NotYet,
}

impl Refused {
    /// The machine-readable reason.
    pub fn code(self) -> Code {
        match self {
            Self::NotOpen(_) => Code::NotOpen,
            Self::Expired => Code::Expired,
            Self::DigestMismatch => Code::DigestMismatch,
            Self::NotAllowed(_) => Code::NotAllowed,
            Self::Superseded => Code::SupersededDecision,
            Self::Editor => Code::Editor,
            Self::NotYet => Code::NotYet,
        }
    }
}

/// A request and the decisions on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What it requires.
    pub spec: ApprovalSpec,
    /// The digest of what is to be approved.
    pub digest: [u8; 32],
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// Its state.
    pub state: RequestState,
    /// Each reviewer and the decision of theirs that counts.
    pub votes: BTreeMap<String, Vote>,
    /// Everybody who has edited the action, in this request or an earlier one.
    pub editors: BTreeSet<String>,
}

impl Request {
    /// Opens a request about an action that nobody has edited.
    pub fn open(spec: ApprovalSpec, digest: [u8; 32], now: DateTime<Utc>) -> Self {
        let expires_at = spec.deadline(now);
        let (state, votes) = (RequestState::Open, BTreeMap::new());
        let editors = BTreeSet::new();
        Self { spec, digest, opened_at: now, expires_at, state, votes, editors }
    }

    /// The reviewers who made this decision and, under other ids of theirs, no other decision since.
    fn voters<'s>(&'s self, decision: Decision, persons: &'s impl Persons) -> impl Iterator<Item = &'s str> {
        let made = self.votes.iter().filter(move |(_, vote)| vote.decision == decision);
        made.filter(|(id, vote)| !self.superseded(id, vote, persons)).map(|(id, _)| id.as_str())
    }

    /// Whether a person has decided differently, under whichever of their ids, in what they signed later than `vote`.
    fn superseded(&self, reviewer: &str, vote: &Vote, persons: &impl Persons) -> bool {
        self.votes.iter().any(|(id, other)| {
            other.decision != vote.decision
                && other.precedence() > vote.precedence()
                && persons.same(id, reviewer)
        })
    }

    /// Whether a person has edited the action, under whichever of their ids.
    fn edited_by(&self, reviewer: &str, persons: &impl Persons) -> bool {
        self.editors.iter().any(|id| persons.same(id, reviewer))
    }

    /// The reviewers whose approval can count under `spec`: who has edited the action counts only where the rule says so.
    pub fn approvers<'s>(
        &'s self,
        spec: &ApprovalSpec,
        persons: &'s impl Persons,
    ) -> impl Iterator<Item = &'s str> {
        let edit_counts = spec.edit_counts;
        let approving = self.voters(Decision::Approve, persons);
        approving.filter(move |id| edit_counts || !self.edited_by(id, persons))
    }

    /// Whether the approvals fill every place that `spec` requires. A person counts once, with the groups of all their ids
    /// that have approved. `counts` is as in [`Request::apply`].
    pub fn satisfies(
        &self,
        spec: &ApprovalSpec,
        now: DateTime<Utc>,
        persons: &impl Persons,
        counts: &impl Fn(&str) -> Option<BTreeSet<String>>,
    ) -> bool {
        let mut people: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for id in self.approvers(spec, persons) {
            if let Some(groups) = counts(id) {
                people.entry(persons.person(id)).or_default().extend(groups);
            }
        }
        let people: Vec<_> = people.into_values().collect();
        spec.satisfied(&people, self.opened_at, now)
    }

    /// How many people have rejected it.
    pub fn rejections(&self, persons: &impl Persons) -> usize {
        let people: BTreeSet<&str> =
            self.voters(Decision::Reject, persons).map(|id| persons.person(id)).collect();
        people.len()
    }

    /// The state after `event` at `now`. `counts` returns the groups of a person whose approval counts now, by the
    /// directory, the separation of duties and the limits of authority, and `None` if it does not count.
    ///
    /// `now` is read from the database's clock under the action's row lock: a deadline that has passed takes precedence
    /// over any other event. An `edit` closes the request, because it no longer describes what would run; the caller
    /// opens another. A `respond` ends it as rejected. While a request is open, a person's later decision replaces the
    /// earlier one: later by when it was signed, so that nobody who carries statements can hold one back. `persons` tells
    /// which reviewers are one person.
    ///
    /// # Errors
    /// If the request does not accept the event. Nothing has changed then, unless the request has just expired.
    pub fn apply(
        &mut self,
        event: RequestEvent,
        now: DateTime<Utc>,
        persons: &impl Persons,
        counts: &impl Fn(&str) -> Option<BTreeSet<String>>,
    ) -> Result<RequestState, Refused> {
        if self.state != RequestState::Open {
            return Err(Refused::NotOpen(self.state));
        }
        if now >= self.expires_at {
            self.state = RequestState::Expired;
            return match event {
                RequestEvent::Lapsed => Ok(self.state),
                _ => Err(Refused::Expired),
            };
        }
        match event {
            RequestEvent::Lapsed => return Err(Refused::NotYet),
            RequestEvent::Closed => self.state = RequestState::Closed,
            RequestEvent::Asked(spec) => {
                self.spec = self.spec.union(&spec);
                self.expires_at = self.expires_at.min(self.spec.deadline(self.opened_at));
                // The rejections so far may be enough under the stricter rule.
                if self.turned_down(persons) {
                    self.state = RequestState::Rejected;
                }
            }
            RequestEvent::Decided { reviewer, decision, digest, signed_at } => {
                self.vote(reviewer, Vote { decision, signed_at }, digest, persons)?;
                self.state = self.outcome(decision, now, persons, counts);
            }
        }
        Ok(self.state)
    }

    fn vote(
        &mut self,
        reviewer: String,
        vote: Vote,
        digest: [u8; 32],
        persons: &impl Persons,
    ) -> Result<(), Refused> {
        if digest != self.digest {
            return Err(Refused::DigestMismatch);
        }
        if !self.spec.decisions.contains(&vote.decision) {
            return Err(Refused::NotAllowed(vote.decision));
        }
        let approves = vote.decision == Decision::Approve;
        if approves && !self.spec.edit_counts && self.edited_by(&reviewer, persons) {
            return Err(Refused::Editor);
        }
        if self.superseded(&reviewer, &vote, persons) {
            return Err(Refused::Superseded);
        }
        match self.votes.get(&reviewer) {
            // A repetition; what was signed last is what a third statement must be later than.
            Some(before) if before.decision == vote.decision && vote.signed_at <= before.signed_at => {}
            _ => {
                self.votes.insert(reviewer.clone(), vote);
            }
        }
        if vote.decision == Decision::Edit {
            self.editors.insert(reviewer);
        }
        Ok(())
    }

    fn outcome(
        &self,
        decision: Decision,
        now: DateTime<Utc>,
        persons: &impl Persons,
        counts: &impl Fn(&str) -> Option<BTreeSet<String>>,
    ) -> RequestState {
        match decision {
            Decision::Approve | Decision::Reject if self.turned_down(persons) => RequestState::Rejected,
            Decision::Approve => match self.satisfies(&self.spec, now, persons, counts) {
                true => RequestState::Approved,
                false => RequestState::Open,
            },
            Decision::Reject => RequestState::Open,
            Decision::Respond => RequestState::Rejected,
            Decision::Edit => RequestState::Closed,
        }
    }

    /// Whether enough people have rejected it.
    fn turned_down(&self, persons: &impl Persons) -> bool {
        self.rejections(persons) >= self.spec.reject_after as usize
    }
}

#[cfg(test)]
mod tests;
