use proptest::prelude::*;

use super::*;
use crate::{
    action::State,
    transition::{Event, Standing, transition},
    verdict::Verdict,
};

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
        assert_eq!(request.apply(decided(id, Decision::Reject), NOW, &groups), Ok(RequestState::Open));
    }
    let stricter = RequestEvent::Asked(spec(&[("treasury", 2)]));
    assert_eq!(request.apply(stricter, NOW, &groups), Ok(RequestState::Rejected));
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
                let got = request.apply(event.clone(), now, &groups);
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
    assert_eq!(request.apply(decided("t1", Decision::Reject), NOW, &groups), Ok(RequestState::Open));
    assert_eq!(request.apply(decided("t1", Decision::Reject), NOW, &groups), Ok(RequestState::Open));
    assert_eq!(request.apply(decided("t2", Decision::Reject), NOW, &groups), Ok(RequestState::Rejected));
}

#[test]
fn a_later_decision_of_the_same_person_replaces_the_earlier_one() {
    let apply =
        |request: &mut Request, id, decision, at| request.apply(signed(id, decision, at), after(50), &groups);
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
    assert_eq!(request.apply(decided("t1", Decision::Edit), NOW, &groups), Ok(RequestState::Closed));
    let edited = |before: &Request| Request {
        editors: before.editors.clone(),
        ..Request::open(before.spec.clone(), SEEN, NOW)
    };
    let mut second = edited(&request);
    assert_eq!(second.apply(decided("t1", Decision::Approve), NOW, &groups), Err(Refused::Editor));
    assert_eq!(second.apply(decided("t2", Decision::Edit), NOW, &groups), Ok(RequestState::Closed));
    let mut third = edited(&second);
    for id in ["t1", "t2"] {
        assert_eq!(third.apply(decided(id, Decision::Approve), NOW, &groups), Err(Refused::Editor));
    }
    // They may still stop it, or edit it again.
    assert!(third.clone().apply(decided("t1", Decision::Reject), NOW, &groups).is_ok());
    assert!(third.clone().apply(decided("t1", Decision::Edit), NOW, &groups).is_ok());
    assert_eq!(third.apply(decided("t3", Decision::Approve), NOW, &groups), Ok(RequestState::Approved));
    // Where an edit counts as an approval, an editor approves; under a stricter policy that no longer counts.
    let mut counting = spec(&[("treasury", 2)]);
    counting.edit_counts = true;
    let mut request = Request { editors: ["t1".into()].into(), ..Request::open(counting, SEEN, NOW) };
    assert_eq!(request.apply(decided("t1", Decision::Approve), NOW, &groups), Ok(RequestState::Open));
    let stricter = RequestEvent::Asked(spec(&[("treasury", 2)]));
    assert_eq!(request.apply(stricter, NOW, &groups), Ok(RequestState::Open));
    assert_eq!(request.apply(decided("t2", Decision::Approve), NOW, &groups), Ok(RequestState::Open));
    assert_eq!(request.apply(decided("t3", Decision::Approve), NOW, &groups), Ok(RequestState::Approved));
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// `late` is how many seconds ago it was signed.
    Decide {
        reviewer: usize,
        decision: usize,
        old_digest: bool,
        late: i64,
    },
    Again(usize),
    Lapse,
    Cancel,
    Policy(usize),
    Leave(usize),
    Claim,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..PEOPLE.len(), prop_oneof![6 => Just(0_usize), 1 => 1..4_usize], prop::bool::weighted(0.1), 0_i64..6)
            .prop_map(|(reviewer, decision, old_digest, late)| Step::Decide { reviewer, decision, old_digest, late }),
        2 => (0..20_usize).prop_map(Step::Again),
        1 => Just(Step::Lapse),
        1 => prop::bool::weighted(0.2).prop_map(|cancel| if cancel { Step::Cancel } else { Step::Lapse }),
        1 => (0..3_usize).prop_map(Step::Policy),
        1 => (0..PEOPLE.len()).prop_map(Step::Leave),
        1 => Just(Step::Claim),
    ]
}

const PEOPLE: [&str; 8] = ["t1", "t2", "r1", "r2", "b1", "b2", "l1", "x1"];

fn policies() -> [ApprovalSpec; 3] {
    let mut escalating = spec(&[("treasury", 1), ("risk", 1)]);
    escalating.escalate = vec![Escalation { after: 20, also: "leads".into(), stands_for: "treasury".into() }];
    escalating.edit_counts = true;
    let mut patient = spec(&[("treasury", 2), ("risk", 1)]);
    patient.reject_after = 3;
    [escalating, patient, spec(&[("risk", 2)])]
}

/// An action as the router stores it: one request at a time on one content.
struct History {
    standing: Standing,
    request: Request,
    version: u8,
    gone: BTreeSet<&'static str>,
    /// Every policy that has required approval since the content was last bound.
    asked: Vec<ApprovalSpec>,
    /// An independent record of everything that was signed on each content and accepted: when, what, by whom.
    book: BTreeMap<u8, Vec<(DateTime<Utc>, Decision, String)>>,
    /// An independent record of who has edited the action.
    edited_by: BTreeSet<String>,
}

impl History {
    fn counting(&self) -> impl Fn(&str) -> Option<BTreeSet<String>> + use<> {
        let gone = self.gone.clone();
        move |id: &str| if gone.contains(id) { None } else { groups(id) }
    }

    /// Tries every assignment of people to places: slow and obvious, and independent of the algorithm under test.
    fn really_satisfied(&self, now: DateTime<Utc>) -> bool {
        fn seat(places: &[&str], people: &[BTreeSet<String>], leads: bool) -> bool {
            let Some((place, rest)) = places.split_first() else { return true };
            (0..people.len()).any(|person| {
                let instead = leads && *place == "treasury" && people[person].contains("leads");
                let fits = people[person].contains(*place) || instead;
                let others = [&people[..person], &people[person + 1..]].concat();
                fits && seat(rest, &others, leads)
            })
        }
        let counts = self.counting();
        let signed = self.book.get(&self.version).map(Vec::as_slice).unwrap_or_default();
        let stands = |id: &str| {
            let own = || signed.iter().filter(move |(_, _, by)| by == id);
            let last = own().map(|(at, ..)| at).max();
            // The last that they have signed, and no rejection in the same second.
            last.is_some_and(|last| {
                own().filter(|(at, ..)| at == last).all(|(_, it, _)| *it == Decision::Approve)
            })
        };
        let edit_counts = self.asked.iter().all(|spec| spec.edit_counts);
        let approves = |id: &&&str| stands(id) && (edit_counts || !self.edited_by.contains(**id));
        let people: Vec<_> = PEOPLE.iter().filter(approves).filter_map(|id| counts(id)).collect();
        self.asked.iter().all(|spec| {
            let places: Vec<&str> = spec
                .require
                .iter()
                .flat_map(|requirement| vec![requirement.group.as_str(); requirement.count as usize])
                .collect();
            let since = self.request.opened_at;
            let leads = spec.escalate.iter().any(|step| since + TimeDelta::seconds(step.after as i64) <= now);
            seat(&places, &people, leads)
        })
    }

    fn decide(
        &mut self,
        reviewer: &str,
        decision: Decision,
        version: u8,
        signed_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> bool {
        let counts = self.counting();
        if counts(reviewer).is_none() {
            return false;
        }
        let event =
            RequestEvent::Decided { reviewer: reviewer.into(), decision, digest: [version; 32], signed_at };
        let before = self.request.state;
        let Ok(state) = self.request.apply(event, now, &counts) else { return false };
        assert_eq!(before, RequestState::Open);
        self.book.entry(version).or_default().push((signed_at, decision, reviewer.into()));
        match (decision, state) {
            (Decision::Edit, RequestState::Closed) => self.edit(reviewer, now),
            (Decision::Approve, _) => self.approve_if(state, now),
            (_, RequestState::Rejected) => {
                self.standing.state = transition(&self.standing, Event::Rejected, now).unwrap().0;
                false
            }
            _ => false,
        }
    }

    /// New content opens a new request with its own deadline. The editor's approval counts only if every policy allows that.
    fn edit(&mut self, editor: &str, now: DateTime<Utc>) -> bool {
        self.version += 1;
        self.edited_by.insert(editor.into());
        let counts = self.request.spec.edit_counts;
        let editors = self.request.editors.clone();
        self.request =
            Request { editors, ..Request::open(self.request.spec.clone(), [self.version; 32], now) };
        counts && self.decide(editor, Decision::Approve, self.version, now, now)
    }

    /// A new policy after a permit was issued: the stricter of both applies, and approvals remain valid if they suffice.
    fn reevaluate(&mut self, policy: ApprovalSpec, now: DateTime<Utc>) -> bool {
        let spec = self.request.spec.union(&policy);
        self.asked.push(policy);
        let counts = self.counting();
        let people: Vec<_> = self.request.approvers(&spec).filter_map(counts).collect();
        self.standing.approved = spec.satisfied(&people, self.request.opened_at, now);
        let event = Event::Evaluated { verdict: Verdict::RequireApproval, held: false };
        self.standing.state = transition(&self.standing, event, now).unwrap().0;
        let (votes, editors) = (self.request.votes.clone(), self.request.editors.clone());
        match self.standing.state {
            State::PendingApproval => {
                self.request = Request { votes, editors, ..Request::open(spec, self.request.digest, now) };
            }
            _ => self.request.spec = spec,
        }
        self.standing.state == State::Authorised
    }

    fn approve_if(&mut self, state: RequestState, now: DateTime<Utc>) -> bool {
        if state != RequestState::Approved {
            return false;
        }
        self.standing.state = transition(&self.standing, Event::Approved { held: false }, now).unwrap().0;
        self.standing.approved = true;
        self.standing.state == State::Authorised
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// However decisions, edits, expiry, cancellation, new policies, people who leave and repeated messages
    /// interleave: whenever the action becomes authorised, distinct people who count then have approved exactly
    /// this content in what they signed last, and have not edited it, for every policy that has asked.
    #[test]
    fn never_a_permit_without_a_satisfied_quorum_on_the_exact_digest(
        steps in prop::collection::vec((step(), 0_i64..4), 1..60),
    ) {
        let first = policies()[0].clone();
        let mut history = History {
            standing: Standing {
                state: State::PendingApproval, approved: false, expires_at: None, approval_expires_at: None,
            },
            request: Request::open(first.clone(), [0; 32], NOW),
            version: 0,
            gone: BTreeSet::new(),
            asked: vec![first],
            book: BTreeMap::new(),
            edited_by: BTreeSet::new(),
        };
        let (mut now, mut sent) = (NOW, Vec::new());
        for (step, seconds) in steps {
            now += TimeDelta::seconds(seconds);
            history.standing.approval_expires_at = Some(history.request.expires_at);
            let step = match step {
                Step::Again(index) if sent.is_empty() => Step::Again(index),
                Step::Again(index) => {
                    let (reviewer, decision, version, at): (&str, Decision, u8, _) = sent[index % sent.len()];
                    let authorised = history.decide(reviewer, decision, version, at, now);
                    prop_assert!(!authorised || history.really_satisfied(now));
                    continue;
                }
                step => step,
            };
            let authorised = match step {
                Step::Decide { reviewer, decision, old_digest, late } => {
                    let version = if old_digest { history.version.wrapping_sub(1) } else { history.version };
                    let decision = Decision::ALL[decision];
                    let at = now - TimeDelta::seconds(late);
                    sent.push((PEOPLE[reviewer], decision, version, at));
                    history.decide(PEOPLE[reviewer], decision, version, at, now)
                }
                Step::Lapse => {
                    let lapsed = history.request.apply(RequestEvent::Lapsed, now, &groups).is_ok();
                    if lapsed {
                        history.standing.state = transition(&history.standing, Event::Lapsed, now).unwrap().0;
                        prop_assert_eq!(history.standing.state, State::Expired);
                    }
                    false
                }
                Step::Cancel => {
                    let counts = history.counting();
                    let _ = history.request.apply(RequestEvent::Closed, now, &counts);
                    if let Ok((state, _)) = transition(&history.standing, Event::Cancelled, now) {
                        history.standing.state = state;
                    }
                    prop_assert!(history.standing.state != State::PendingApproval);
                    false
                }
                Step::Policy(index) if history.standing.state == State::Authorised => {
                    // The request's deadline no longer matters once it has been approved.
                    history.standing.approval_expires_at = None;
                    history.reevaluate(policies()[index].clone(), now)
                }
                Step::Policy(index) => {
                    let policy = policies()[index].clone();
                    let counts = history.counting();
                    if history.request.apply(RequestEvent::Asked(policy.clone()), now, &counts).is_ok() {
                        history.asked.push(policy);
                        let event = Event::Evaluated { verdict: Verdict::RequireApproval, held: false };
                        prop_assert_eq!(transition(&history.standing, event, now).unwrap().0, State::PendingApproval);
                    }
                    false
                }
                Step::Leave(index) => {
                    history.gone.insert(PEOPLE[index]);
                    false
                }
                Step::Claim => {
                    if let Ok((State::Executing, _)) = transition(&history.standing, Event::Claimed, now) {
                        prop_assert!(history.standing.approved);
                        history.standing.state = State::Executing;
                    }
                    false
                }
                Step::Again(_) => false,
            };
            prop_assert!(!authorised || history.really_satisfied(now));
            let ended = matches!(history.standing.state, State::Rejected | State::Expired);
            prop_assert!(!ended || history.request.state != RequestState::Approved);
        }
    }
}
