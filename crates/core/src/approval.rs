//! An approval request: who must approve, who may decide, until when, and what a decision does to it.
//!
//! **A request is satisfied only by distinct people who fill every required place, on the exact digest that the
//! request shows.** Everything that can happen to a request goes through [`Request::apply`].

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refusal::Code;

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

/// How many distinct members of a group must approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requirement {
    /// The group.
    pub group: String,
    /// How many of its members; at least 1.
    pub count: u32,
}

/// Lets another group decide as well once a request has been open for some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// Seconds after the request is opened.
    pub after: u64,
    /// The group whose members may then decide.
    pub also: String,
    /// The one required group for which they count: an escalation never merges two groups.
    #[serde(rename = "for", default)]
    pub stands_for: String,
}

/// What a request requires. Fixed when the request is opened, except that a new policy can make it stricter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalSpec {
    /// All must be met, each by different people.
    pub require: Vec<Requirement>,
    /// The number of rejections that end the request.
    pub reject_after: u32,
    /// Seconds from opening to expiry.
    pub expires_after: u64,
    /// Who else may decide, and from when; ordered by time.
    pub escalate: Vec<Escalation>,
    /// The allowed kinds of decision.
    pub decisions: Vec<Decision>,
    /// The codes from which a rejection must choose. If empty, a text is enough.
    pub reason_codes: Vec<String>,
    /// Whether editing an action also counts as approving it.
    pub edit_counts: bool,
    /// CEL expressions over the action and the reviewer: if any is true, the reviewer may not decide.
    pub exclude: Vec<String>,
}

impl ApprovalSpec {
    /// When a request opened at `opened` expires.
    pub fn deadline(&self, opened: DateTime<Utc>) -> DateTime<Utc> {
        let seconds = i64::try_from(self.expires_after).unwrap_or(i64::MAX);
        TimeDelta::try_seconds(seconds)
            .and_then(|after| opened.checked_add_signed(after))
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The groups that may decide at `now`: the required ones and those to which the request has escalated.
    pub fn groups(&self, opened: DateTime<Utc>, now: DateTime<Utc>) -> BTreeSet<&str> {
        let required = self.require.iter().map(|requirement| requirement.group.as_str());
        required.chain(self.escalated(opened, now).map(|step| step.also.as_str())).collect()
    }

    /// The steps by which a request opened at `opened` has escalated by `now`.
    pub fn escalated(&self, opened: DateTime<Utc>, now: DateTime<Utc>) -> impl Iterator<Item = &Escalation> {
        let waited = u64::try_from((now - opened).num_seconds()).unwrap_or(0);
        self.escalate.iter().filter(move |step| step.after <= waited)
    }

    /// How many people must approve in all.
    pub fn quorum(&self) -> u32 {
        self.require.iter().map(|requirement| requirement.count).sum()
    }

    /// The stricter of both in every respect: every group and the higher count of either, the fewest rejections, the
    /// earliest expiry, only the decisions that both allow, only the escalations that both have, every exclusion of either.
    pub fn union(&self, other: &Self) -> Self {
        let mut require = self.require.clone();
        for theirs in &other.require {
            match require.iter_mut().find(|mine| mine.group == theirs.group) {
                Some(mine) => mine.count = mine.count.max(theirs.count),
                None => require.push(theirs.clone()),
            }
        }
        let escalate = self.escalate.iter().filter_map(|mine| {
            let same = |step: &&Escalation| (&step.also, &step.stands_for) == (&mine.also, &mine.stands_for);
            let theirs = other.escalate.iter().find(same)?;
            Some(Escalation { after: mine.after.max(theirs.after), ..mine.clone() })
        });
        let mut escalate: Vec<Escalation> = escalate.collect();
        escalate.sort_by_key(|step| step.after);
        let both = |decision: &Decision| other.decisions.contains(decision);
        let merged = |mine: &[String], theirs: &[String]| {
            let new = theirs.iter().filter(|text| !mine.contains(text));
            mine.iter().chain(new).cloned().collect::<Vec<_>>()
        };
        Self {
            require,
            reject_after: self.reject_after.min(other.reject_after),
            expires_after: self.expires_after.min(other.expires_after),
            escalate,
            decisions: self.decisions.iter().copied().filter(both).collect(),
            reason_codes: merged(&self.reason_codes, &other.reason_codes),
            edit_counts: self.edit_counts && other.edit_counts,
            exclude: merged(&self.exclude, &other.exclude),
        }
    }

    /// Whether these people fill every required place, each of them at most one.
    ///
    /// A maximum bipartite matching of people to places by augmenting paths (Kuhn 1955): counting per group would
    /// count a person in two groups twice.
    pub fn satisfied(&self, people: &[BTreeSet<String>], opened: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let escalated: Vec<&Escalation> = self.escalated(opened, now).collect();
        let places: Vec<&str> = self
            .require
            .iter()
            .flat_map(|requirement| {
                std::iter::repeat_n(requirement.group.as_str(), requirement.count as usize)
            })
            .collect();
        if people.len() < places.len() {
            return false;
        }
        let fits = |person: usize, place: usize| {
            let stands =
                |step: &&Escalation| step.stands_for == places[place] && people[person].contains(&step.also);
            people[person].contains(places[place]) || escalated.iter().any(stands)
        };
        let mut taken: Vec<Option<usize>> = vec![None; people.len()];
        (0..places.len()).all(|place| {
            let mut tried = vec![false; people.len()];
            seat(place, &fits, &mut taken, &mut tried)
        })
    }
}

/// Finds a person for `place`, if necessary by moving others to another place that they fit.
fn seat(
    place: usize,
    fits: &impl Fn(usize, usize) -> bool,
    taken: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for person in 0..taken.len() {
        if !fits(person, place) || std::mem::replace(&mut tried[person], true) {
            continue;
        }
        let free = match taken[person] {
            None => true,
            Some(other) => seat(other, fits, taken, tried),
        };
        if free {
            taken[person] = Some(place);
            return true;
        }
    }
    false
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

    /// The reviewers who made this decision.
    pub fn voters(&self, decision: Decision) -> impl Iterator<Item = &str> {
        self.votes.iter().filter(move |(_, vote)| vote.decision == decision).map(|(id, _)| id.as_str())
    }

    /// The reviewers whose approval can count under `spec`: who has edited the action counts only where the rule says so.
    pub fn approvers<'s>(&'s self, spec: &ApprovalSpec) -> impl Iterator<Item = &'s str> + use<'s> {
        let edit_counts = spec.edit_counts;
        self.voters(Decision::Approve).filter(move |id| edit_counts || !self.editors.contains(*id))
    }

    /// The state after `event` at `now`. `counts` returns the groups of a person whose approval counts now, by the
    /// directory, the separation of duties and the limits of authority, and `None` if it does not count.
    ///
    /// `now` is read from the database's clock under the action's row lock: a deadline that has passed takes precedence
    /// over any other event. An `edit` closes the request, because it no longer describes what would run; the caller
    /// opens another. A `respond` ends it as rejected. While a request is open, a person's later decision replaces the
    /// earlier one: later by when it was signed, so that nobody who carries statements can hold one back.
    ///
    /// # Errors
    /// If the request does not accept the event. Nothing has changed then, unless the request has just expired.
    pub fn apply(
        &mut self,
        event: RequestEvent,
        now: DateTime<Utc>,
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
                if self.turned_down() {
                    self.state = RequestState::Rejected;
                }
            }
            RequestEvent::Decided { reviewer, decision, digest, signed_at } => {
                self.vote(reviewer, Vote { decision, signed_at }, digest)?;
                self.state = self.outcome(decision, now, counts);
            }
        }
        Ok(self.state)
    }

    fn vote(&mut self, reviewer: String, vote: Vote, digest: [u8; 32]) -> Result<(), Refused> {
        if digest != self.digest {
            return Err(Refused::DigestMismatch);
        }
        if !self.spec.decisions.contains(&vote.decision) {
            return Err(Refused::NotAllowed(vote.decision));
        }
        if vote.decision == Decision::Approve && !self.spec.edit_counts && self.editors.contains(&reviewer) {
            return Err(Refused::Editor);
        }
        match self.votes.get(&reviewer) {
            // A repetition; what was signed last is what a third statement must be later than.
            Some(before) if before.decision == vote.decision && vote.signed_at <= before.signed_at => {}
            Some(before) if vote.precedence() < before.precedence() => return Err(Refused::Superseded),
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
        counts: &impl Fn(&str) -> Option<BTreeSet<String>>,
    ) -> RequestState {
        match decision {
            Decision::Approve | Decision::Reject if self.turned_down() => RequestState::Rejected,
            Decision::Approve => {
                let people: Vec<_> = self.approvers(&self.spec).filter_map(counts).collect();
                match self.spec.satisfied(&people, self.opened_at, now) {
                    true => RequestState::Approved,
                    false => RequestState::Open,
                }
            }
            Decision::Reject => RequestState::Open,
            Decision::Respond => RequestState::Rejected,
            Decision::Edit => RequestState::Closed,
        }
    }

    /// Whether enough reviewers have rejected it.
    fn turned_down(&self) -> bool {
        self.voters(Decision::Reject).count() >= self.spec.reject_after as usize
    }
}

#[cfg(test)]
mod tests;
