//! Checks the promises: a pure function of the history and the stored state.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use countersign_core::{
    action::State,
    message::Decision,
    refusal::Code,
    transition::{Completion, Event as Arrow, Standing, transition},
    verdict::Verdict,
};
use serde_json::Value;

use super::{
    fault::Fault,
    history::{Event, Kind, Phase, SPENDING_MAX, SPENT, customer},
    hostile::is_hostile,
    stored::{Quarantined, Stored, StoredAction},
};

/// The number of claims after which an idempotent action goes into doubt.
const RECOVERIES: i32 = 10;

/// The least inclusion probability that the policy allows for executed actions.
const AUDITED: f64 = 0.3;

/// The promise that a lost message breaks.
pub(crate) const KEPT: &str = "accepted is kept";

/// The promise that a message breaks that fails alone and stays where it is.
pub(crate) const ISOLATED: &str = "what cannot be handled is quarantined";

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    /// The promise.
    pub(crate) promise: &'static str,
    /// The contradicting observation.
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// The history of one action.
#[derive(Default)]
struct Observed<'a> {
    kind: Option<Kind>,
    /// What its agent asked for.
    arguments: Option<&'a Value>,
    confirmed: bool,
    /// The stricter policy that was in force before it was first proposed.
    tightening: Option<usize>,
    /// Whether a stricter policy was applied while it was under way: an interrupted call is evaluated again under it, and not
    /// repeated if that requires an approval.
    reevaluated: bool,
    outcomes: Vec<State>,
    calls: Vec<(&'a str, &'a Value)>,
    effects: Vec<Effect<'a>>,
    votes: Vec<Vote<'a>>,
}

/// An effect of a tool call.
struct Effect<'a> {
    key: &'a str,
    tool: &'a str,
    arguments: &'a Value,
    /// The votes cast before it acted.
    votes: Vec<Vote<'a>>,
    /// The stricter policy that was in force then.
    tightening: Option<usize>,
}

/// What a reviewer decided.
#[derive(Clone, Copy)]
struct Vote<'a> {
    event: &'a str,
    reviewer: &'a str,
    decision: Decision,
    digest: &'a str,
    arguments: &'a Value,
}

/// Returns all violations of the promises.
pub(crate) fn check(history: &[Event], stored: &Stored) -> Vec<Violation> {
    let mut found = Found(Vec::new());
    let arrows = arrows();
    let mut actions = by_action(history);
    // Honest reviewers decide on what the hostile agent proposes.
    actions.retain(|id, _| !is_hostile(id));
    for (id, observed) in &actions {
        let action = stored.actions.get(*id);
        found.accepted(id, observed, action);
        found.effects(id, observed, action);
        if let Some(action) = action {
            found.walk(action, &arrows);
            found.sampling(action);
        }
    }
    for id in stored.actions.keys().filter(|id| !actions.contains_key(id.as_str())) {
        found.add("nothing is stored but what was proposed", id.clone());
    }
    found.spending(&actions);
    found.statements(history, stored);
    found.quarantine(history, stored);
    found.isolation(history, stored);
    found.evidence(stored);
    found.0
}

fn by_action(history: &[Event]) -> BTreeMap<&str, Observed<'_>> {
    let mut actions: BTreeMap<&str, Observed<'_>> = BTreeMap::new();
    // Periods of the stricter policy are told apart by when they begin.
    let (mut tightening, tighten) = (None, Fault::Tighten.to_string());
    let mut tightens = false;
    for (at, event) in history.iter().enumerate() {
        match event {
            Event::Injected { fault } if *fault == tighten => {
                tightens = true;
                let ended = |state: &State| *state != State::InDoubt;
                let open = actions.values_mut().filter(|observed| !observed.outcomes.iter().any(ended));
                open.for_each(|observed| observed.reevaluated = true);
            }
            Event::Stands { fault } if *fault == tighten => tightening = Some(at),
            Event::Heals { fault } if *fault == tighten => (tightening, tightens) = (None, false),
            Event::Proposed { id, kind, arguments, phase } => {
                let observed = actions.entry(id).or_insert_with(|| Observed {
                    tightening,
                    reevaluated: tightens,
                    ..Observed::default()
                });
                (observed.kind, observed.arguments) = (Some(*kind), Some(arguments));
                observed.confirmed |= *phase == Phase::Ok;
            }
            Event::OutcomeReceived { id, outcome } => {
                let state = State::ALL.into_iter().find(|state| state.outcome() == Some(*outcome));
                actions.entry(id).or_default().outcomes.extend(state);
            }
            // It may count from its invocation on.
            Event::Decided { id, event, reviewer, decision, digest, arguments, phase: Phase::Invoke } => {
                let vote = Vote { event, reviewer, decision: *decision, digest, arguments };
                actions.entry(id).or_default().votes.push(vote);
            }
            Event::Called { id, key, arguments, .. } => {
                actions.entry(id).or_default().calls.push((key, arguments));
            }
            Event::Acted { id, key, tool, arguments } => {
                let observed = actions.entry(id).or_default();
                let votes = observed.votes.clone();
                observed.effects.push(Effect { key, tool, arguments, votes, tightening });
            }
            Event::Decided { .. } | Event::Found { .. } => {}
            Event::Injected { .. } | Event::Stands { .. } | Event::Heals { .. } => {}
            Event::Poisoned { .. } | Event::Calm => {}
        }
    }
    actions
}

/// Every step that the state machine can make.
fn arrows() -> BTreeSet<(&'static str, &'static str)> {
    let now = chrono::DateTime::UNIX_EPOCH;
    let (earlier, later) = (now - chrono::TimeDelta::days(1), now + chrono::TimeDelta::days(1));
    let mut events = vec![Arrow::Rejected, Arrow::Cancelled, Arrow::Lapsed, Arrow::Claimed];
    for held in [false, true] {
        events.push(Arrow::Approved { held });
        events.push(Arrow::Interrupted { idempotent: held });
        events.push(Arrow::Resolved { succeeded: held });
        for verdict in [Verdict::Allow, Verdict::RequireApproval, Verdict::Deny] {
            events.push(Arrow::Evaluated { verdict, held });
        }
    }
    events.extend([Completion::Succeeded, Completion::Failed, Completion::Unknown].map(Arrow::Completed));
    let mut arrows = BTreeSet::new();
    for state in State::ALL {
        for (approved, expires_at) in [(false, later), (true, later), (false, earlier)] {
            let standing =
                Standing { state, approved, expires_at: Some(expires_at), approval_expires_at: None };
            let next = events.iter().filter_map(|event| transition(&standing, *event, now).ok());
            arrows.extend(next.map(|(next, _)| (state.as_str(), next.as_str())));
        }
    }
    arrows
}

/// Whether the required quorum has approved exactly these arguments, and the stored digest if there is one: people who
/// have not edited the action, in what they decided last.
fn approved(
    kind: Kind,
    tight: bool,
    arguments: &Value,
    action: Option<&StoredAction>,
    votes: &[Vote<'_>],
) -> bool {
    let digest = action.map(|action| action.digest.as_str());
    let recorded = action.map(|action| action.recorded.as_slice()).unwrap_or_default();
    let counts = |vote: &&Vote<'_>| {
        let decided =
            vote.decision == Decision::Approve || (vote.decision == Decision::Edit && kind.edit_counts());
        // An edit shows the digest of what it changes.
        let bound = vote.decision == Decision::Edit || digest.is_none_or(|digest| digest == vote.digest);
        decided && bound && vote.arguments == arguments
    };
    let at = |vote: &Vote<'_>| recorded.iter().position(|event| event == vote.event);
    let later = |vote: &&Vote<'_>| {
        let own = votes.iter().filter(|other| (other.reviewer, other.digest) == (vote.reviewer, vote.digest));
        own.filter(|other| other.decision != vote.decision).any(|other| at(other) > at(vote))
    };
    // Who has edited the action counts only where an edit does.
    let edited = |vote: &&Vote<'_>| {
        let edits = |other: &Vote<'_>| other.decision == Decision::Edit && at(other).is_some();
        !kind.edit_counts() && votes.iter().any(|other| other.reviewer == vote.reviewer && edits(other))
    };
    let standing = votes.iter().filter(counts).filter(|vote| !later(vote) && !edited(vote));
    let people: BTreeSet<&str> = standing.map(|vote| vote.reviewer).collect();
    // Hall's condition: everyone can count in one group only, so any set of groups must have as many people as it needs.
    let needs = kind.needs(tight);
    let enough = |some: u32| {
        let some =
            || needs.iter().enumerate().filter(move |(at, _)| some >> at & 1 == 1).map(|(_, need)| need);
        let there = people.iter().filter(|person| some().any(|(_, group)| group.contains(person)));
        there.count() >= some().map(|(count, _)| count).sum()
    };
    (0..1 << needs.len()).all(enough)
}

struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, promise: &'static str, what: String) {
        self.0.push(Violation { promise, what });
    }

    /// A confirmed action is stored, ends and is answered, and the answers match the stored outcomes.
    fn accepted(&mut self, id: &str, observed: &Observed<'_>, action: Option<&StoredAction>) {
        let Some(action) = action else {
            if observed.confirmed {
                self.add(KEPT, format!("{id} was confirmed and is not stored"));
            }
            if !observed.outcomes.is_empty() {
                self.add("answers are stored", format!("{id} was answered and is not stored"));
            }
            return;
        };
        let state = action.state;
        // An action in doubt ends when an auditor resolves it; then its agent receives a second outcome.
        if state.outcome().is_none() || state == State::InDoubt {
            self.add("accepted ends", format!("{id} is still {state}"));
        } else if observed.confirmed && !observed.outcomes.contains(&state) {
            self.add(
                "accepted is answered",
                format!("{id} is {state}, and its agent never received that outcome"),
            );
        }
        for state in observed.outcomes.iter().filter(|state| !action.outcomes.contains(*state)) {
            let stored = &action.outcomes;
            self.add("answers are stored", format!("{id}: {state} was received, {stored:?} are stored"));
        }
        let idempotent = observed.kind.is_some_and(Kind::idempotent);
        // A refused repetition tells nothing about the first attempt, and would be refused again.
        let repeated = observed.calls.len() > 1 || action.fence > 1;
        let refused = repeated && !observed.calls.is_empty() && observed.effects.is_empty();
        let given_up = observed.reevaluated && observed.kind == Some(Kind::Record);
        let in_doubt = action.outcomes.contains(&State::InDoubt);
        if in_doubt && idempotent && !refused && !given_up && action.fence < RECOVERIES {
            self.add(
                "idempotent is repeated",
                format!("{id} is in doubt after {} claims, though it may be repeated", action.fence),
            );
        }
    }

    /// At most one effect, of the approved content, and none if the outcome denies it.
    fn effects(&mut self, id: &str, observed: &Observed<'_>, action: Option<&StoredAction>) {
        let Some(kind) = observed.kind else {
            if !observed.calls.is_empty() {
                self.add("no effect without proposal", format!("{id:?} was called and never proposed"));
            }
            return;
        };
        if observed.effects.len() > 1 {
            let keys: Vec<_> = observed.effects.iter().map(|effect| effect.key).collect();
            self.add("one effect", format!("{id} acted {} times, with keys {keys:?}", keys.len()));
        }
        if !kind.idempotent() && observed.calls.len() > 1 {
            let calls = observed.calls.len();
            self.add("one effect", format!("{id} was called {calls} times, and may not be repeated"));
        }
        if observed.calls.iter().any(|call| observed.calls.first() != Some(call)) {
            self.add("one key, one call", format!("{id} was called with {:?}", observed.calls));
        }
        for Effect { key, tool, arguments, votes, tightening } in &observed.effects {
            if *tool != kind.tool() {
                self.add("no effect but the proposed", format!("{id} acted at {tool}"));
            }
            // Without an approval the call must equal the proposal.
            if kind.needs(false).is_empty() && observed.arguments != Some(*arguments) {
                self.add("no effect but the proposed", format!("{id} acted with {arguments}"));
            }
            // Proposed and executed under the same stricter policy, which was in force in between.
            let tight = tightening.is_some() && *tightening == observed.tightening;
            if !approved(kind, tight, arguments, action, votes) {
                self.add("no effect without approval", format!("{id} acted with {arguments}"));
            }
            if action.is_none_or(|action| action.key != *key) {
                self.add("one key, one call", format!("{id} acted with the key {key}"));
            }
        }
        let Some(action) = action else { return };
        let done = !observed.effects.is_empty();
        for outcome in &action.outcomes {
            if *outcome == State::Succeeded && !done {
                self.add("outcomes are true", format!("{id} succeeded without an effect"));
            }
            if !matches!(outcome, State::Succeeded | State::InDoubt) && done {
                self.add("outcomes are true", format!("{id} is {outcome} and has had its effect"));
            }
        }
    }

    /// The spending for each customer stays within the limit.
    fn spending(&mut self, actions: &BTreeMap<&str, Observed<'_>>) {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for (id, observed) in actions.iter().filter(|(_, observed)| observed.kind == Some(Kind::Spend)) {
            *sums.entry(customer(id)).or_default() += observed.effects.len() as u64 * SPENT;
        }
        for (customer, sum) in sums.into_iter().filter(|(_, sum)| *sum > SPENDING_MAX) {
            self.add("limits hold", format!("{sum} of at most {SPENDING_MAX} was spent for {customer}"));
        }
    }

    /// Evidence contains only legal transitions, and ends in the action's state.
    fn walk(&mut self, action: &StoredAction, arrows: &BTreeSet<(&str, &str)>) {
        let mut state = State::Proposed;
        for next in &action.walk {
            if state != *next && !arrows.contains(&(state.as_str(), next.as_str())) {
                self.add("legal transitions", format!("{} went from {state} to {next}", action.id));
            }
            state = *next;
        }
        if state != action.state {
            let stored = action.state;
            self.add(
                "transitions are evidence",
                format!("{} is {stored}, but {state} in evidence", action.id),
            );
        }
    }

    /// Every executed action has exactly one draw, every selected one its audit.
    fn sampling(&mut self, action: &StoredAction) {
        let id = &action.id;
        let wanted = usize::from(action.executed);
        if action.draws != wanted || action.sampled != wanted {
            let (draws, sampled) = (action.draws, action.sampled);
            let what = format!("{id}: {draws} draws, {sampled} in evidence, {wanted} expected");
            self.add("sampling is complete", what);
        }
        if action.executed && action.pi < AUDITED {
            self.add("sampling is complete", format!("{id} was drawn with a probability of {}", action.pi));
        }
        if action.selected && action.audits != 1 {
            self.add("sampling is complete", format!("{id} was drawn and has {} audits", action.audits));
        }
    }

    /// Decisions and findings that were confirmed are kept.
    fn statements(&mut self, history: &[Event], stored: &Stored) {
        for entry in history {
            let (who, event) = match entry {
                Event::Decided { reviewer, event, phase: Phase::Ok, .. } => (reviewer, event),
                Event::Found { auditor, event, phase: Phase::Ok, .. } => (auditor, event),
                _ => continue,
            };
            if !stored.statements.contains(event) {
                self.add(KEPT, format!("the statement of {who} in {event} is not stored"));
            }
        }
    }

    /// Honest clients and workers send only valid messages; only messages to a deleted queue may be quarantined.
    fn quarantine(&mut self, history: &[Event], stored: &Stored) {
        let deleted = |queue: &str| {
            let fault = Fault::deletion(queue);
            history.iter().any(|event| matches!(event, Event::Injected { fault: had } if *had == fault))
        };
        for Quarantined { code, message, queue } in &stored.quarantined {
            if code != Code::Undeliverable.as_str() || !deleted(queue) {
                self.add("nothing good is quarantined", format!("{code}: {message} (for {queue})"));
            }
        }
    }

    /// A message that the database refuses is quarantined, if it was accepted before the faults were over. Later ones may
    /// still be waiting for their turn. Where there was none, the hostile clients did nothing, and the run shows little.
    fn isolation(&mut self, history: &[Event], stored: &Stored) {
        let Some(calm) = history.iter().position(|event| *event == Event::Calm) else { return };
        let poisoned = history[..calm].iter().filter_map(|event| match event {
            Event::Poisoned { id } => Some(id),
            _ => None,
        });
        let (isolated, left): (Vec<&String>, Vec<&String>) =
            poisoned.partition(|id| stored.isolated.contains(*id));
        if isolated.is_empty() && left.is_empty() {
            self.add(
                "hostile clients are heard",
                "the broker accepted no message that the database refuses".into(),
            );
        }
        for id in left {
            self.add(ISOLATED, id.clone());
        }
    }

    /// The ledger verifies and is complete, the stream has all of it in order, and all draws can be reproduced.
    fn evidence(&mut self, stored: &Stored) {
        if let Some(why) = &stored.ledger {
            self.add("the ledger verifies", why.clone());
        }
        if stored.pending > 0 {
            self.add("evidence is recorded", format!("{} rows are not in the ledger", stored.pending));
        }
        for why in &stored.wrong_draws {
            self.add("draws are reproducible", why.clone());
        }
        for index in &stored.altered {
            self.add("the stream is the ledger", format!("entry {index} differs"));
        }
        let mut next = 0;
        for index in &stored.stream {
            if *index > next {
                self.add("the stream has no gap", format!("it has {index} where {next} should be"));
            }
            next = next.max(index + 1);
        }
        if next != stored.size {
            self.add("the stream has no gap", format!("it has {next} of {} entries", stored.size));
        }
    }
}

#[cfg(test)]
mod tests;
