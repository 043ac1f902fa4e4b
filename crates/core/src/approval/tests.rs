mod history;

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;

const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
const SEEN: [u8; 32] = [1; 32];

fn after(seconds: i64) -> DateTime<Utc> {
    NOW + TimeDelta::seconds(seconds)
}

fn spec(require: &[(&str, u32)]) -> ApprovalSpec {
    ApprovalSpec {
        require: require
            .iter()
            .map(|(group, count)| Requirement { group: (*group).into(), count: *count })
            .collect(),
        reject_after: 1,
        expires_after: 60,
        escalate: vec![],
        decisions: Decision::ALL.to_vec(),
        reason_codes: vec![],
        edit_counts: false,
        exclude: vec![],
    }
}

/// The groups of the people in these tests: `t1` is in treasury, `r1` in risk, `b1` in both.
fn groups(id: &str) -> Option<BTreeSet<String>> {
    let names: &[&str] = match id.chars().next()? {
        't' => &["treasury"],
        'r' => &["risk"],
        'l' => &["leads"],
        'b' => &["treasury", "risk"],
        _ => return None,
    };
    Some(names.iter().map(|&name| name.to_owned()).collect())
}

/// Who is whom in these tests: `t1` and `t1-2` are one person.
struct Directory;

impl Persons for Directory {
    fn person<'p>(&'p self, id: &'p str) -> &'p str {
        id.split('-').next().unwrap_or(id)
    }
}

fn satisfied(spec: &ApprovalSpec, people: &[&str], now: DateTime<Utc>) -> bool {
    let people: Vec<_> = people.iter().filter_map(|id| groups(id)).collect();
    spec.satisfied(&people, NOW, now)
}

fn decided(reviewer: &str, decision: Decision) -> RequestEvent {
    signed(reviewer, decision, 0)
}

/// A decision that was signed so many seconds after the request was opened.
fn signed(reviewer: &str, decision: Decision, at: i64) -> RequestEvent {
    RequestEvent::Decided { reviewer: reviewer.into(), decision, digest: SEEN, signed_at: after(at) }
}

#[test]
fn a_person_in_two_groups_counts_once() {
    let spec = spec(&[("treasury", 2), ("risk", 1)]);
    assert!(!satisfied(&spec, &["b1", "b2"], NOW), "two people cannot be three");
    assert!(satisfied(&spec, &["b1", "b2", "b3"], NOW));
    assert!(satisfied(&spec, &["t1", "b1", "r1"], NOW));
    assert!(satisfied(&spec, &["b1", "t1", "b2"], NOW), "a person in the wrong place is moved");
    assert!(!satisfied(&spec, &["t1", "t2", "t3"], NOW), "nobody of risk");
    assert!(!satisfied(&spec, &["t1", "r1", "r2"], NOW), "one of treasury is missing");
}

#[test]
fn another_group_may_decide_once_it_has_escalated() {
    let mut spec = spec(&[("treasury", 2)]);
    spec.escalate = vec![Escalation { after: 10, also: "leads".into(), stands_for: "treasury".into() }];
    assert!(!satisfied(&spec, &["l1", "l2"], after(9)));
    assert!(satisfied(&spec, &["l1", "l2"], after(10)));
    assert!(satisfied(&spec, &["l1", "t1"], after(10)));
    assert_eq!(spec.groups(NOW, after(9)).len(), 1);
    assert_eq!(spec.groups(NOW, after(10)).len(), 2);
    // The escalation counts for the group that it stands for, and no other.
    spec.require.push(Requirement { group: "risk".into(), count: 1 });
    assert!(!satisfied(&spec, &["l1", "l2", "l3"], after(10)), "nobody of risk");
    assert!(satisfied(&spec, &["l1", "l2", "r1"], after(10)));
}

#[test]
fn a_policy_that_requires_fewer_rejections_counts_earlier_ones() {
    let mut patient = spec(&[("treasury", 2)]);
    patient.reject_after = 3;
    let mut request = Request::open(patient, SEEN, NOW);
    for id in ["t1", "t2"] {
        assert_eq!(
            request.apply(decided(id, Decision::Reject), NOW, &Directory, &groups),
            Ok(RequestState::Open)
        );
    }
    let stricter = RequestEvent::Asked(spec(&[("treasury", 2)]));
    assert_eq!(request.apply(stricter, NOW, &Directory, &groups), Ok(RequestState::Rejected));
}

#[test]
fn the_union_is_at_least_as_strict_as_either() {
    let mut old = spec(&[("treasury", 2)]);
    old.escalate = vec![Escalation { after: 10, also: "leads".into(), stands_for: "treasury".into() }];
    let mut new = spec(&[("treasury", 1), ("risk", 1)]);
    new.expires_after = 30;
    new.decisions = vec![Decision::Approve, Decision::Reject];
    new.exclude = vec!["reviewer.id == action.id".into()];
    let union = old.union(&new);
    assert_eq!(union.quorum(), 3);
    assert_eq!((union.expires_after, union.decisions.len()), (30, 2));
    assert!(union.escalate.is_empty() && union.exclude == new.exclude);
    for people in [&["t1", "t2"][..], &["t1", "r1"], &["t1", "t2", "r1"], &["b1", "b2", "b3"]] {
        let both = satisfied(&old, people, NOW) && satisfied(&new, people, NOW);
        assert!(!satisfied(&union, people, NOW) || both, "{people:?}");
    }
}

/// (state, event) → state, for every legal pair, on a request that one person of treasury decides.
#[test]
fn every_pair_of_state_and_event_is_an_arrow_or_refused() {
    use RequestState::*;
    let events = [
        (decided("t1", Decision::Approve), Some(Approved)),
        (decided("t1", Decision::Reject), Some(Rejected)),
        (decided("t1", Decision::Respond), Some(Rejected)),
        (decided("t1", Decision::Edit), Some(Closed)),
        (RequestEvent::Lapsed, None),
        (RequestEvent::Closed, Some(Closed)),
        (RequestEvent::Asked(spec(&[("risk", 1)])), Some(Open)),
    ];
    for state in RequestState::ALL {
        for (event, expected) in &events {
            for late in [false, true] {
                let mut request = Request::open(spec(&[("treasury", 1)]), SEEN, NOW);
                request.state = state;
                let now = if late { after(60) } else { after(59) };
                let got = request.apply(event.clone(), now, &Directory, &groups);
                let expected = match (state, late, event) {
                    (Open, false, _) => *expected,
                    (Open, true, RequestEvent::Lapsed) => Some(Expired),
                    _ => None,
                };
                assert_eq!(got.ok(), expected, "{state:?} on {event:?}, late: {late}");
                if state != Open {
                    assert_eq!(request.state, state, "an ended request is unchanged");
                } else if late {
                    assert_eq!(request.state, Expired);
                }
            }
        }
    }
}

#[test]
fn rejections_end_a_request_at_the_threshold_and_nobody_rejects_twice() {
    let mut spec = spec(&[("treasury", 2)]);
    spec.reject_after = 2;
    let mut request = Request::open(spec, SEEN, NOW);
    assert_eq!(
        request.apply(decided("t1", Decision::Reject), NOW, &Directory, &groups),
        Ok(RequestState::Open)
    );
    assert_eq!(
        request.apply(decided("t1", Decision::Reject), NOW, &Directory, &groups),
        Ok(RequestState::Open)
    );
    assert_eq!(
        request.apply(decided("t2", Decision::Reject), NOW, &Directory, &groups),
        Ok(RequestState::Rejected)
    );
}

#[test]
fn a_later_decision_of_the_same_person_replaces_the_earlier_one() {
    let apply = |request: &mut Request, id, decision, at| {
        request.apply(signed(id, decision, at), after(50), &Directory, &groups)
    };
    let mut request = Request::open(spec(&[("treasury", 2)]), SEEN, NOW);
    assert_eq!(apply(&mut request, "t1", Decision::Approve, 1), Ok(RequestState::Open));
    assert_eq!(apply(&mut request, "t1", Decision::Reject, 2), Ok(RequestState::Rejected));
    let mut patient = spec(&[("treasury", 2)]);
    patient.reject_after = 2;
    let mut request = Request::open(patient, SEEN, NOW);
    for (decision, at, counts) in [
        (Decision::Approve, 10, Ok(())),
        (Decision::Reject, 20, Ok(())),
        // It was held back, or has taken a longer way.
        (Decision::Approve, 15, Err(Refused::Superseded)),
        // At the same time a rejection counts, whichever arrives first.
        (Decision::Approve, 20, Err(Refused::Superseded)),
        (Decision::Approve, 21, Ok(())),
        (Decision::Reject, 21, Ok(())),
        (Decision::Approve, 30, Ok(())),
        // A repetition that is signed later: what is signed in between no longer counts.
        (Decision::Approve, 40, Ok(())),
        (Decision::Reject, 35, Err(Refused::Superseded)),
        (Decision::Approve, 5, Ok(())),
        (Decision::Reject, 39, Err(Refused::Superseded)),
    ] {
        let got = apply(&mut request, "t1", decision, at);
        assert_eq!(got.map(|state| assert_eq!(state, RequestState::Open)), counts, "{decision:?} at {at}");
    }
    assert_eq!(apply(&mut request, "t2", Decision::Approve, 1), Ok(RequestState::Approved));
    let mut request = Request::open(spec(&[("treasury", 2)]), SEEN, NOW);
    assert_eq!(apply(&mut request, "t1", Decision::Approve, 1), Ok(RequestState::Open));
    assert_eq!(apply(&mut request, "t1", Decision::Edit, 2), Ok(RequestState::Closed));
}

#[test]
fn whoever_has_edited_an_action_counts_for_no_later_request_of_it() {
    // The request after an edit, and the one after somebody else has edited it back.
    let mut request = Request::open(spec(&[("treasury", 1)]), SEEN, NOW);
    assert_eq!(
        request.apply(decided("t1", Decision::Edit), NOW, &Directory, &groups),
        Ok(RequestState::Closed)
    );
    let edited = |before: &Request| Request {
        editors: before.editors.clone(),
        ..Request::open(before.spec.clone(), SEEN, NOW)
    };
    let mut second = edited(&request);
    assert_eq!(
        second.apply(decided("t1", Decision::Approve), NOW, &Directory, &groups),
        Err(Refused::Editor)
    );
    assert_eq!(
        second.apply(decided("t2", Decision::Edit), NOW, &Directory, &groups),
        Ok(RequestState::Closed)
    );
    let mut third = edited(&second);
    for id in ["t1", "t2"] {
        assert_eq!(
            third.apply(decided(id, Decision::Approve), NOW, &Directory, &groups),
            Err(Refused::Editor)
        );
    }
    // They may still stop it, or edit it again.
    assert!(third.clone().apply(decided("t1", Decision::Reject), NOW, &Directory, &groups).is_ok());
    assert!(third.clone().apply(decided("t1", Decision::Edit), NOW, &Directory, &groups).is_ok());
    assert_eq!(
        third.apply(decided("t3", Decision::Approve), NOW, &Directory, &groups),
        Ok(RequestState::Approved)
    );
    // Where an edit counts as an approval, an editor approves; under a stricter policy that no longer counts.
    let mut counting = spec(&[("treasury", 2)]);
    counting.edit_counts = true;
    let mut request = Request { editors: ["t1".into()].into(), ..Request::open(counting, SEEN, NOW) };
    assert_eq!(
        request.apply(decided("t1", Decision::Approve), NOW, &Directory, &groups),
        Ok(RequestState::Open)
    );
    let stricter = RequestEvent::Asked(spec(&[("treasury", 2)]));
    assert_eq!(request.apply(stricter, NOW, &Directory, &groups), Ok(RequestState::Open));
    assert_eq!(
        request.apply(decided("t2", Decision::Approve), NOW, &Directory, &groups),
        Ok(RequestState::Open)
    );
    assert_eq!(
        request.apply(decided("t3", Decision::Approve), NOW, &Directory, &groups),
        Ok(RequestState::Approved)
    );
}

/// What becomes of these decisions, each signed a second after the one before.
fn sequence(spec: ApprovalSpec, decisions: &[(&str, Decision)]) -> (Request, Result<RequestState, Refused>) {
    let mut request = Request::open(spec, SEEN, NOW);
    let mut last = Ok(RequestState::Open);
    for (at, (id, decision)) in (0..).zip(decisions) {
        last = request.apply(signed(id, *decision, at), NOW, &Directory, &groups);
    }
    (request, last)
}

#[test]
fn a_person_with_two_ids_counts_once() {
    use Decision::{Approve, Edit, Reject};
    use RequestState::{Approved, Closed, Open, Rejected};
    let two = || ApprovalSpec { reject_after: 2, ..spec(&[("treasury", 2)]) };
    let (request, state) = sequence(two(), &[("t1", Approve), ("t1-2", Approve)]);
    assert_eq!((state, request.votes.len()), (Ok(Open), 2), "both votes are kept");
    assert_eq!(sequence(two(), &[("t1", Approve), ("t1-2", Approve), ("t2", Approve)]).1, Ok(Approved));
    assert_eq!(sequence(two(), &[("t1", Reject), ("t1-2", Reject)]).1, Ok(Open));
    assert_eq!(sequence(two(), &[("t1", Reject), ("t1-2", Reject), ("t2", Reject)]).1, Ok(Rejected));
    // They have the groups of all their ids, and still one place.
    let both = || ApprovalSpec { reject_after: 2, ..spec(&[("treasury", 1), ("risk", 1)]) };
    assert_eq!(sequence(both(), &[("t1", Approve), ("b2", Approve)]).1, Ok(Approved));
    let of_both = |id: &str| if id == "t1-2" { groups("r1") } else { groups(id) };
    let mut request = Request::open(both(), SEEN, NOW);
    for (id, state) in [("t1", Open), ("t1-2", Open), ("t2", Approved)] {
        assert_eq!(request.apply(decided(id, Approve), NOW, &Directory, &of_both), Ok(state), "{id}");
    }
    // Whoever has edited it under one id does not approve it under another.
    let (edited, state) = sequence(two(), &[("t1", Edit)]);
    assert_eq!(state, Ok(Closed));
    let mut second = Request { editors: edited.editors, ..Request::open(two(), SEEN, NOW) };
    let again = second.apply(decided("t1-2", Approve), NOW, &Directory, &groups);
    assert_eq!(again, Err(Refused::Editor));
}

#[test]
fn a_later_decision_replaces_the_earlier_one_that_a_person_made_under_another_id() {
    use Decision::{Approve, Reject};
    use RequestState::{Approved, Open};
    let two = || ApprovalSpec { reject_after: 2, ..spec(&[("treasury", 2)]) };
    // They have thought better of it: the approval no longer counts, and then it does again.
    let thought = [("t1", Approve), ("t1-2", Reject), ("t2", Approve)];
    assert_eq!(sequence(two(), &thought).1, Ok(Open));
    assert_eq!(sequence(two(), &[&thought[..], &[("t1", Approve)]].concat()).1, Ok(Approved));
    // One that was held back does not replace what was signed later.
    let (mut request, _) = sequence(two(), &[("t2", Approve), ("t1-2", Reject), ("t1-2", Reject)]);
    let late = request.apply(signed("t1", Approve, 1), NOW, &Directory, &groups);
    assert_eq!(late, Err(Refused::Superseded));
}
