//! What a request requires: who, how many, until when.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Decision;

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
