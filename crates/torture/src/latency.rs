//! How long honest agents wait for an answer while hostile clients send garbage and nothing else is wrong.

use std::{collections::BTreeMap, time::Duration};

use super::{
    check::Violation,
    history::{Event, Kind},
};

/// How long the system may take to recover from the last fault.
pub(crate) const RECOVERED_AFTER: Duration = Duration::from_secs(15);

/// The longest wait of 99 in 100 actions.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The promise that a message breaks that stops a lane.
pub(crate) const IN_TIME: &str = "hostile messages delay nobody";

/// The actions that were proposed after the system had recovered, with their waits in increasing order. From the first
/// decision of a reviewer to the last one the wait is theirs: of three who share a queue two must find a request, which is
/// repeated every few seconds. An action that was never answered has waited until the end.
pub(crate) fn waits<'h>(history: &'h [(Duration, Event)]) -> Vec<(Duration, &'h str)> {
    let calm = history.iter().find(|(_, event)| *event == Event::Calm).map(|(at, _)| *at + RECOVERED_AFTER);
    let (Some(calm), Some((end, _))) = (calm, history.last()) else { return vec![] };
    let mut proposed: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut answered: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut decided: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for (at, event) in history {
        match event {
            // A request that expires waits on purpose.
            Event::Proposed { kind: Kind::Soon, .. } => {}
            Event::Proposed { id, .. } => {
                proposed.entry(id).or_insert(*at);
            }
            Event::OutcomeReceived { id, .. } => {
                answered.entry(id).or_insert(*at);
            }
            Event::Decided { id, .. } if !answered.contains_key(id.as_str()) => {
                decided.entry(id).or_default().push(*at);
            }
            _ => {}
        }
    }
    let during_calm = proposed.into_iter().filter(|(_, at)| *at >= calm);
    let wait = |(id, at): (&'h str, Duration)| {
        let theirs = decided.get(id).and_then(|times| Some(*times.last()? - *times.first()?));
        let whole = answered.get(id).unwrap_or(end).saturating_sub(at);
        // Without an answer, no decision was the last one.
        let theirs = theirs.filter(|_| answered.contains_key(id)).unwrap_or_default();
        (whole.saturating_sub(theirs), id)
    };
    let mut waits: Vec<_> = during_calm.map(wait).collect();
    waits.sort_unstable();
    waits
}

/// The wait of which so many of a hundred are not longer; `None` without any.
pub(crate) fn percentile<'a>(
    waits: &[(Duration, &'a str)],
    of_hundred: usize,
) -> Option<(Duration, &'a str)> {
    waits.get((waits.len() * of_hundred).div_ceil(100).checked_sub(1)?).copied()
}

/// Whether honest actions were answered in time.
pub(crate) fn check(waits: &[(Duration, &str)]) -> Option<Violation> {
    let (wait, action) = percentile(waits, 99).filter(|(wait, _)| *wait > WAIT_MAX)?;
    let what = format!(
        "of {} actions one in a hundred waited longer than {wait:.1?}, such as {action}",
        waits.len()
    );
    Some(Violation { promise: IN_TIME, what })
}

#[cfg(test)]
mod tests {
    use countersign_core::{action::Outcome, message::Decision};
    use serde_json::Value;

    use super::*;
    use crate::history::Phase;

    /// A hundred actions after the system had recovered, the last of which wait for `slow`.
    fn history(slow: &[u64]) -> Vec<(Duration, Event)> {
        let mut history = vec![(Duration::from_secs(10), Event::Calm)];
        for n in 0..100_u64 {
            let id = format!("one-{n:05}");
            let at = Duration::from_secs(30) + Duration::from_millis(n);
            let wait = slow
                .get((99 - n) as usize)
                .map_or(Duration::from_millis(100), |wait| Duration::from_secs(*wait));
            let (kind, arguments, phase) = (Kind::Record, Value::Null, Phase::Ok);
            history.push((at, Event::Proposed { id: id.clone(), kind, arguments, phase }));
            history.push((at + wait, Event::OutcomeReceived { id, outcome: Outcome::Succeeded }));
        }
        history.sort_by_key(|(at, _)| *at);
        history
    }

    #[test]
    fn one_slow_answer_of_a_hundred_is_no_violation_and_two_are() {
        assert_eq!(check(&waits(&history(&[]))), None);
        assert_eq!(check(&waits(&history(&[60]))), None);
        assert!(check(&waits(&history(&[60, 6]))).is_some());
    }

    #[test]
    fn what_reviewers_take_between_them_is_theirs() {
        let mut history = history(&[60, 60, 60]);
        let decided = |n: u64, at: u64| {
            let event = Event::Decided {
                id: format!("one-{n:05}"),
                event: at.to_string(),
                reviewer: "sam".into(),
                decision: Decision::Approve,
                digest: String::new(),
                arguments: Value::Null,
                phase: Phase::Ok,
            };
            (Duration::from_secs(at), event)
        };
        history.extend([97, 98].into_iter().flat_map(|n| [decided(n, 31), decided(n, 89)]));
        history.sort_by_key(|(at, _)| *at);
        assert_eq!(check(&waits(&history)), None);
        // The one that nobody decides is the only slow one; with a second one it is too much.
        history.retain(|(at, event)| !matches!(event, Event::Decided { .. } if at.as_secs() == 89));
        assert!(check(&waits(&history)).is_some());
    }

    #[test]
    fn an_action_that_is_not_answered_waits_until_the_end() {
        let mut history = history(&[]);
        history.retain(|(_, event)| !matches!(event, Event::OutcomeReceived { id, .. } if id.ends_with("0")));
        history.push((Duration::from_secs(90), Event::Heals { fault: "x".into() }));
        assert!(check(&waits(&history)).is_some());
    }

    #[test]
    fn what_happened_while_faults_stood_does_not_count() {
        let mut history = history(&[60, 60, 60]);
        history.retain(|(_, event)| *event != Event::Calm);
        history.push((Duration::from_secs(300), Event::Calm));
        assert!(waits(&history).is_empty());
    }
}
