//! The checker finds each kind of violation, and none in a good history.

use std::collections::BTreeSet;

use countersign_core::{
    action::{Outcome, State},
    message::{Decision, Finding},
};
use serde_json::{Value, json};

use super::*;

const DIGEST: &str = "sha256:aa";

fn action(id: &str, walk: &[State]) -> StoredAction {
    let state = *walk.last().unwrap();
    let executed = walk.contains(&State::Executing);
    StoredAction {
        key: format!("key of {id}"),
        id: id.into(),
        state,
        fence: i32::from(executed),
        digest: DIGEST.into(),
        outcomes: vec![state],
        executed,
        draws: usize::from(executed),
        sampled: usize::from(executed),
        selected: executed,
        pi: if executed { AUDITED } else { 0.0 },
        audits: usize::from(executed),
        walk: walk.to_vec(),
        recorded: vec![],
    }
}

fn proposed(id: &str, kind: Kind) -> [Event; 2] {
    let event = |phase| Event::Proposed { id: id.into(), kind, arguments: arguments(id), phase };
    [Phase::Invoke, Phase::Ok].map(event)
}

fn arguments(id: &str) -> Value {
    json!({"ref": id})
}

fn acted(id: &str, kind: Kind, arguments: Value) -> [Event; 2] {
    let (id, key) = (id.to_owned(), format!("key of {id}"));
    let tool = kind.tool().to_owned();
    [
        Event::Called { id: id.clone(), key: key.clone(), tool: tool.clone(), arguments: arguments.clone() },
        Event::Acted { id, key, tool, arguments },
    ]
}

fn received(id: &str, outcome: Outcome) -> Event {
    Event::OutcomeReceived { id: id.into(), outcome }
}

fn decided(id: &str, reviewer: &str, decision: Decision, arguments: Value) -> Event {
    Event::Decided {
        id: id.into(),
        event: format!("{reviewer} on {id}"),
        reviewer: reviewer.into(),
        decision,
        digest: DIGEST.into(),
        arguments,
        phase: Phase::Invoke,
    }
}

const DONE: [State; 3] = [State::Authorised, State::Executing, State::Succeeded];
const APPROVED: [State; 4] = [State::PendingApproval, State::Authorised, State::Executing, State::Succeeded];

/// A history without violations: an allowed action, an approved one and a letter.
fn good() -> (Vec<Event>, Stored) {
    let mut events = Vec::new();
    events.extend(proposed("record", Kind::Record));
    events.extend(acted("record", Kind::Record, arguments("record")));
    events.push(received("record", Outcome::Succeeded));
    events.extend(proposed("large", Kind::Large));
    events.push(decided("large", "sam", Decision::Approve, arguments("large")));
    events.extend(acted("large", Kind::Large, arguments("large")));
    events.push(received("large", Outcome::Succeeded));
    events.extend(proposed("letter", Kind::Letter));
    events.extend(acted("letter", Kind::Letter, arguments("letter")));
    events.push(received("letter", Outcome::Succeeded));
    let stored = [action("record", &DONE), action("large", &APPROVED), action("letter", &DONE)];
    let stored = Stored {
        actions: stored.into_iter().map(|action| (action.id.clone(), action)).collect(),
        size: 3,
        stream: vec![0, 1, 1, 2],
        ..Stored::default()
    };
    (events, stored)
}

/// The promises that a changed history breaks.
fn broken(change: impl FnOnce(&mut Vec<Event>, &mut Stored)) -> BTreeSet<&'static str> {
    let (mut events, mut stored) = good();
    change(&mut events, &mut stored);
    check(&events, &stored).into_iter().map(|violation| violation.promise).collect()
}

fn stored<'a>(stored: &'a mut Stored, id: &str) -> &'a mut StoredAction {
    stored.actions.get_mut(id).unwrap()
}

fn only(promise: &'static str) -> BTreeSet<&'static str> {
    [promise].into()
}

#[test]
fn a_good_history_breaks_nothing() {
    assert_eq!(broken(|_, _| {}), BTreeSet::new());
}

#[test]
fn a_confirmed_action_that_is_not_stored_is_found() {
    let lost = broken(|events, _| events.extend(proposed("lost", Kind::Record)));
    assert_eq!(lost, only("accepted is kept"));
    let mut unknown = proposed("perhaps", Kind::Record)[..1].to_vec();
    if let Event::Proposed { phase, .. } = &mut unknown[0] {
        *phase = Phase::Unknown;
    }
    assert_eq!(broken(|events, _| events.extend(unknown)), BTreeSet::new());
}

#[test]
fn an_action_that_does_not_end_or_is_not_answered_is_found() {
    let open = broken(|_, all| {
        let one = stored(all, "record");
        (one.state, one.walk) = (State::Executing, DONE[..2].to_vec());
    });
    assert!(open.contains("accepted ends"));
    let silent = broken(|events, _| events.retain(|event| *event != received("record", Outcome::Succeeded)));
    assert_eq!(silent, only("accepted is answered"));
    let doubt = |state: State| {
        broken(move |events, all| {
            let one = stored(all, "letter");
            (one.state, one.outcomes) = (state, vec![State::InDoubt]);
            one.walk = [&DONE[..2], &[State::InDoubt]].concat();
            if state != State::InDoubt {
                one.outcomes.push(state);
                one.walk.push(state);
            }
            events.pop();
            events.push(received("letter", Outcome::InDoubt));
        })
    };
    assert_eq!(doubt(State::InDoubt), only("accepted ends"));
    assert_eq!(doubt(State::Succeeded), only("accepted is answered"));
}

#[test]
fn an_action_that_nobody_proposed_is_found() {
    let invented = broken(|_, all| {
        all.actions.insert("invented".into(), action("invented", &[State::Denied]));
    });
    assert_eq!(invented, only("nothing is stored but what was proposed"));
}

#[test]
fn spending_beyond_the_limit_is_found() {
    let spending = |count: u64| {
        broken(move |events, all| {
            for id in (0..count).map(|n| format!("spend-{n}")) {
                events.extend(proposed(&id, Kind::Spend));
                events.extend(acted(&id, Kind::Spend, arguments(&id)));
                events.push(received(&id, Outcome::Succeeded));
                all.actions.insert(id.clone(), action(&id, &DONE));
            }
        })
    };
    assert_eq!(spending(SPENDING_MAX / SPENT), BTreeSet::new());
    assert_eq!(spending(SPENDING_MAX / SPENT + 1), only("limits hold"));
    assert_eq!((customer("one-00299"), customer("two-00300")), ("customer:0".into(), "customer:1".into()));
}

#[test]
fn an_answer_that_is_not_stored_is_found() {
    let wrong = broken(|events, _| events.push(received("record", Outcome::Denied)));
    assert_eq!(wrong, only("answers are stored"));
}

#[test]
fn an_effect_without_approval_is_found() {
    let never = broken(|events, _| events.retain(|event| !matches!(event, Event::Decided { .. })));
    assert_eq!(never, only("no effect without approval"));
    let late = broken(|events, _| {
        let vote = events.iter().position(|event| matches!(event, Event::Decided { .. })).unwrap();
        let vote = events.remove(vote);
        events.push(vote);
    });
    assert_eq!(late, only("no effect without approval"));
    let rejected = broken(|events, _| {
        for event in events {
            if let Event::Decided { decision, .. } = event {
                *decision = Decision::Reject;
            }
        }
    });
    assert_eq!(rejected, only("no effect without approval"));
}

#[test]
fn an_effect_without_the_approval_that_a_stricter_policy_asks_for_is_found() {
    let tightened = |stands: usize, heals: usize, approves: bool| {
        broken(move |events, _| {
            let fault = Fault::Tighten.to_string();
            events.insert(heals, Event::Heals { fault: fault.clone() });
            if approves {
                events.insert(2, decided("record", "sam", Decision::Approve, arguments("record")));
            }
            events.insert(stands, Event::Stands { fault });
        })
    };
    // Two of the proposal, two of the effect, the answer.
    assert_eq!(tightened(0, 4, false), only("no effect without approval"));
    assert_eq!(tightened(0, 4, true), BTreeSet::new());
    assert_eq!(tightened(2, 4, false), BTreeSet::new(), "it may have been claimed before");
    assert_eq!(tightened(0, 3, false), BTreeSet::new(), "it may have been claimed afterwards");
}

#[test]
fn an_effect_of_other_content_than_was_approved_is_found() {
    let digest = broken(|_, all| stored(all, "large").digest = "sha256:bb".into());
    assert_eq!(digest, only("no effect without approval"));
    let other = broken(|events, _| {
        for event in events {
            if let Event::Decided { arguments, .. } = event {
                *arguments = json!({"ref": "large", "amount": "1"});
            }
        }
    });
    assert_eq!(other, only("no effect without approval"));
}

#[test]
fn an_approval_that_its_reviewer_has_replaced_or_given_to_their_own_edit_is_found() {
    let also = |decision: Decision, digest: &'static str, last: bool| {
        broken(move |events, all| {
            let at = events.iter().position(|event| matches!(event, Event::Decided { .. })).unwrap();
            let mut other = decided("large", "sam", decision, arguments("large"));
            if let Event::Decided { event, digest: shown, .. } = &mut other {
                (*event, *shown) = ("another".into(), digest.into());
            }
            events.insert(at, other);
            let order = if last { ["sam on large", "another"] } else { ["another", "sam on large"] };
            stored(all, "large").recorded = order.map(str::to_owned).into();
        })
    };
    assert_eq!(also(Decision::Reject, DIGEST, true), only("no effect without approval"));
    assert_eq!(also(Decision::Reject, DIGEST, false), BTreeSet::new(), "the approval is the later one");
    assert_eq!(also(Decision::Edit, "sha256:bb", false), only("no effect without approval"));
}

#[test]
fn an_effect_other_than_the_proposed_is_found() {
    let changed = |change: fn(&mut String, &mut Value)| {
        broken(move |events, _| {
            for event in events {
                if let Event::Called { id, tool, arguments, .. } | Event::Acted { id, tool, arguments, .. } =
                    event
                    && id == "record"
                {
                    change(tool, arguments);
                }
            }
        })
    };
    assert_eq!(changed(|tool, _| *tool = "another".into()), only("no effect but the proposed"));
    let more = changed(|_, arguments| *arguments = json!({"ref": "record", "more": true}));
    assert_eq!(more, only("no effect but the proposed"));
}

#[test]
fn a_quorum_takes_distinct_people_of_each_group() {
    let quorum = |people: &'static [&'static str]| {
        broken(move |events, all| {
            events.extend(proposed("pay", Kind::Quorum));
            let vote = |person: &&str| decided("pay", person, Decision::Approve, arguments("pay"));
            events.extend(people.iter().map(vote));
            events.extend(acted("pay", Kind::Quorum, arguments("pay")));
            events.push(received("pay", Outcome::Succeeded));
            all.actions.insert("pay".into(), action("pay", &APPROVED));
        })
    };
    assert_eq!(quorum(&["tara", "tom", "rob"]), BTreeSet::new());
    assert_eq!(quorum(&["tara", "tara", "rob"]), only("no effect without approval"));
    assert_eq!(quorum(&["tara", "tom"]), only("no effect without approval"));
    assert_eq!(quorum(&["tara", "tom", "bea"]), BTreeSet::new());
    assert_eq!(quorum(&["tara", "bea"]), only("no effect without approval"), "nobody counts in two groups");
    assert_eq!(quorum(&["bea", "tara", "rob"]), BTreeSet::new());
}

#[test]
fn a_second_effect_is_found() {
    let again = broken(|events, _| events.extend(acted("letter", Kind::Letter, arguments("letter"))));
    assert_eq!(again, only("one effect"));
    let key = broken(|events, _| {
        let mut more = acted("record", Kind::Record, arguments("record"));
        if let Event::Called { key, .. } | Event::Acted { key, .. } = &mut more[1] {
            *key = "another".into();
        }
        events.push(more[1].clone());
    });
    assert_eq!(key, BTreeSet::from(["one effect", "one key, one call"]));
    let repeated =
        broken(|events, _| events.push(acted("record", Kind::Record, arguments("record"))[0].clone()));
    assert_eq!(repeated, BTreeSet::new());
    let called =
        broken(|events, _| events.push(acted("letter", Kind::Letter, arguments("letter"))[0].clone()));
    assert_eq!(called, only("one effect"));
}

#[test]
fn an_outcome_that_is_not_true_is_found() {
    let nothing = broken(|events, _| {
        events.retain(|event| !matches!(event, Event::Acted { id, .. } if id == "record"));
    });
    assert_eq!(nothing, only("outcomes are true"));
    let failed = broken(|events, all| {
        let one = stored(all, "letter");
        (one.state, one.outcomes) = (State::Failed, vec![State::Failed]);
        one.walk = vec![State::Authorised, State::Executing, State::Failed];
        events.pop();
        events.push(received("letter", Outcome::Failed));
    });
    assert_eq!(failed, only("outcomes are true"));
}

#[test]
fn what_may_be_repeated_is_not_left_in_doubt() {
    let doubt = |id: &'static str| {
        broken(move |_, all| {
            let one = stored(all, id);
            one.outcomes = vec![State::InDoubt, State::Succeeded];
            one.walk = [&DONE[..2], &[State::InDoubt, State::Succeeded]].concat();
        })
    };
    assert_eq!(doubt("letter"), BTreeSet::new());
    assert_eq!(doubt("record"), only("idempotent is repeated"));
    let unanswered = |claims: i32| {
        broken(move |events, all| {
            events.retain(|event| match event {
                Event::Acted { id, .. } | Event::OutcomeReceived { id, .. } => id != "record",
                _ => true,
            });
            events.extend([received("record", Outcome::InDoubt), received("record", Outcome::Failed)]);
            let one = stored(all, "record");
            one.fence = claims;
            (one.state, one.outcomes) = (State::Failed, vec![State::InDoubt, State::Failed]);
            one.walk = [&DONE[..2], &[State::InDoubt, State::Failed]].concat();
        })
    };
    assert_eq!(unanswered(2), BTreeSet::new(), "the tool has refused the repetition");
    assert_eq!(unanswered(1), only("idempotent is repeated"));
    let tightened = |at: usize| {
        broken(move |events, all| {
            let one = stored(all, "record");
            one.outcomes = vec![State::InDoubt, State::Succeeded];
            one.walk = [&DONE[..2], &[State::InDoubt, State::Succeeded]].concat();
            events.insert(at, Event::Injected { fault: Fault::Tighten.to_string() });
        })
    };
    assert_eq!(tightened(2), BTreeSet::new(), "evaluated again, it needs an approval");
    assert_eq!(tightened(5), only("idempotent is repeated"), "it had ended before");
}

#[test]
fn an_illegal_transition_is_found() {
    let back = broken(|_, all| {
        stored(all, "record").walk = [&DONE[..], &[State::Executing, State::Succeeded]].concat();
    });
    assert_eq!(back, only("legal transitions"));
    let skipped = broken(|_, all| stored(all, "record").walk = vec![State::Authorised, State::Succeeded]);
    assert_eq!(skipped, only("legal transitions"));
    let silent = broken(|_, all| stored(all, "record").walk = DONE[..2].to_vec());
    assert_eq!(silent, only("transitions are evidence"));
}

#[test]
fn a_missing_or_second_draw_is_found() {
    assert_eq!(broken(|_, all| stored(all, "record").draws = 0), only("sampling is complete"));
    assert_eq!(broken(|_, all| stored(all, "record").sampled = 2), only("sampling is complete"));
    assert_eq!(broken(|_, all| stored(all, "record").audits = 0), only("sampling is complete"));
    assert_eq!(broken(|_, all| stored(all, "record").pi = 0.0), only("sampling is complete"));
    let again = broken(|_, all| all.wrong_draws.push("another result".into()));
    assert_eq!(again, only("draws are reproducible"));
}

#[test]
fn a_lost_decision_or_finding_is_found() {
    let found = |phase| Event::Found {
        id: "record".into(),
        event: "ada on record".into(),
        auditor: "ada".into(),
        finding: Finding::Correct,
        phase,
    };
    assert_eq!(broken(|events, _| events.push(found(Phase::Ok))), only("accepted is kept"));
    assert_eq!(broken(|events, _| events.push(found(Phase::Unknown))), BTreeSet::new());
}

#[test]
fn a_ledger_that_does_not_hold_and_a_stream_with_a_gap_are_found() {
    assert_eq!(broken(|_, all| all.ledger = Some("no".into())), only("the ledger verifies"));
    assert_eq!(broken(|_, all| all.pending = 1), only("evidence is recorded"));
    assert_eq!(broken(|_, all| all.stream = vec![0, 2]), only("the stream has no gap"));
    assert_eq!(broken(|_, all| all.stream = vec![0, 1]), only("the stream has no gap"));
    assert_eq!(broken(|_, all| all.altered = [1].into()), only("the stream is the ledger"));
}

#[test]
fn a_quarantined_message_is_found_unless_its_queue_was_deleted() {
    let quarantined = |code: &'static str, fault: &'static str| {
        broken(move |events, all| {
            events.push(Event::Injected { fault: fault.into() });
            all.quarantined.push(Quarantined { code: code.into(), message: "why".into(), queue: "q".into() });
        })
    };
    assert_eq!(quarantined("poison", "deleted queue (q)"), only("nothing good is quarantined"));
    assert_eq!(quarantined("undeliverable", "full queue (q)"), only("nothing good is quarantined"));
    assert_eq!(quarantined("undeliverable", "deleted queue (another)"), only("nothing good is quarantined"));
    assert_eq!(quarantined("undeliverable", "deleted queue (q)"), BTreeSet::new());
}

#[test]
fn a_refused_message_that_is_quarantined_nowhere_is_found_unless_it_came_late() {
    let poisoned = |before: bool, isolated: &'static str| {
        broken(move |events, all| {
            let poisoned = Event::Poisoned { id: "eve/poison/22003/1".into() };
            events.extend(if before { [poisoned, Event::Calm] } else { [Event::Calm, poisoned] });
            all.isolated.insert(isolated.into());
        })
    };
    assert_eq!(poisoned(true, "another"), only(ISOLATED));
    assert_eq!(poisoned(true, "eve/poison/22003/1"), BTreeSet::new());
    assert_eq!(poisoned(false, "another"), only("hostile clients are heard"));
}
