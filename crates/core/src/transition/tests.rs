use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;

const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

fn standing(state: State, approved: bool) -> Standing {
    Standing { state, approved, expires_at: None, approval_expires_at: None }
}

fn events() -> Vec<Event> {
    let mut events = vec![Event::Rejected, Event::Cancelled, Event::Lapsed, Event::Claimed];
    for held in [false, true] {
        events.push(Event::Approved { held });
        for verdict in [Verdict::Allow, Verdict::RequireApproval, Verdict::Deny] {
            events.push(Event::Evaluated { verdict, held });
        }
        events.push(Event::Interrupted { idempotent: held });
        events.push(Event::Resolved { succeeded: held });
    }
    for completion in [Completion::Succeeded, Completion::Failed, Completion::Unknown] {
        events.push(Event::Completed(completion));
    }
    events
}

/// (state, event) → state, for every legal pair without an approval and before any deadline.
fn arrow(state: State, event: Event) -> Option<State> {
    use State::*;
    let open = matches!(state, Proposed | PendingApproval | Held | Authorised);
    Some(match (state, event) {
        (_, Event::Evaluated { verdict: Verdict::Deny, .. }) if open => Denied,
        (_, Event::Evaluated { verdict: Verdict::RequireApproval, .. }) if open => PendingApproval,
        (PendingApproval, Event::Evaluated { verdict: Verdict::Allow, .. }) => PendingApproval,
        (_, Event::Evaluated { verdict: Verdict::Allow, held }) if open => {
            if held {
                Held
            } else {
                Authorised
            }
        }
        (PendingApproval, Event::Approved { held: false }) => Authorised,
        (PendingApproval, Event::Approved { held: true }) => Held,
        (PendingApproval, Event::Rejected) => Rejected,
        (_, Event::Cancelled) if open => Cancelled,
        (Authorised, Event::Claimed) => Executing,
        (Executing, Event::Completed(Completion::Succeeded)) => Succeeded,
        (Executing, Event::Completed(Completion::Failed)) => Failed,
        (Executing, Event::Completed(Completion::Unknown)) => InDoubt,
        (Executing, Event::Interrupted { idempotent: true }) => Executing,
        (Executing, Event::Interrupted { idempotent: false }) => InDoubt,
        (InDoubt, Event::Resolved { succeeded: true }) => Succeeded,
        (InDoubt, Event::Resolved { succeeded: false }) => Failed,
        _ => return None,
    })
}

#[test]
fn every_pair_of_state_and_event_is_an_arrow_of_the_diagram_or_refused() {
    for state in State::ALL {
        for event in events() {
            let got = transition(&standing(state, false), event, NOW).ok().map(|(state, _)| state);
            assert_eq!(got, arrow(state, event), "{state} on {event:?}");
        }
    }
}

#[test]
fn an_approval_already_given_still_counts_when_evaluated_again() {
    let event = Event::Evaluated { verdict: Verdict::RequireApproval, held: false };
    for state in [State::Held, State::Authorised] {
        let (next, effects) = transition(&standing(state, true), event, NOW).unwrap();
        assert_eq!((next, effects), (State::Authorised, vec![Effect::IssuePermit]));
    }
}

#[test]
fn a_passed_deadline_wins_over_everything_until_the_claim() {
    for state in [State::Proposed, State::PendingApproval, State::Held, State::Authorised] {
        for event in events() {
            let late = Standing { expires_at: Some(NOW), ..standing(state, true) };
            let (next, effects) = transition(&late, event, NOW).unwrap();
            assert_eq!(next, State::Expired);
            assert_eq!(effects.last(), Some(&Effect::Answer));
        }
    }
}

#[test]
fn an_expired_approval_never_authorises() {
    let late = Standing { approval_expires_at: Some(NOW), ..standing(State::PendingApproval, false) };
    let (next, _) = transition(&late, Event::Approved { held: false }, NOW).unwrap();
    assert_eq!(next, State::Expired);
    let early = transition(&late, Event::Approved { held: false }, NOW - TimeDelta::nanoseconds(1));
    assert_eq!(early.unwrap().0, State::Authorised);
}

#[test]
fn every_end_is_answered_and_every_execution_sampled() {
    for state in State::ALL {
        for event in events() {
            let Ok((next, effects)) = transition(&standing(state, false), event, NOW) else { continue };
            assert_eq!(next.outcome().is_some(), effects.contains(&Effect::Answer), "{state} on {event:?}");
            if next.executed() && state != State::InDoubt {
                assert!(effects.contains(&Effect::Sample));
            }
        }
    }
}

proptest! {
    /// Promise 1 as a property: however events interleave, a call of the tool comes after an `allow`
    /// verdict or an approval, never after neither.
    #[test]
    fn nothing_runs_without_allow_or_approval(steps in prop::collection::vec((0_usize..17, 0_i64..3), 1..40)) {
        let events = events();
        let mut standing = Standing {
            state: State::Proposed,
            approved: false,
            expires_at: Some(NOW + TimeDelta::seconds(30)),
            approval_expires_at: Some(NOW + TimeDelta::seconds(20)),
        };
        let (mut now, mut allowed) = (NOW, false);
        for (pick, seconds) in steps {
            now += TimeDelta::seconds(seconds);
            let event = events[pick % events.len()];
            let before = standing.state;
            let Ok((next, effects)) = transition(&standing, event, now) else { continue };
            let verdict_allows = matches!(event, Event::Evaluated { verdict: Verdict::Allow, .. });
            allowed = match next {
                State::Authorised | State::Held => verdict_allows || standing.approved || matches!(event, Event::Approved { .. }),
                _ => allowed,
            };
            standing.approved |= matches!(event, Event::Approved { .. }) && before == State::PendingApproval && next != State::Expired;
            standing.state = next;
            if effects.contains(&Effect::CallTool) {
                prop_assert!(allowed);
                prop_assert!(before == State::Executing || now < NOW + TimeDelta::seconds(30));
            }
        }
    }
}
