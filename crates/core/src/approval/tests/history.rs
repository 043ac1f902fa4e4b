//! Random histories of one action, against an independent account of who has approved what.

use super::*;
use crate::{
    action::State,
    transition::{Event, Standing, transition},
    verdict::Verdict,
};

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

/// Ids of reviewers; `t1-2` and `b1-2` are second ids.
const PEOPLE: [&str; 10] = ["t1", "t1-2", "t2", "r1", "r2", "b1", "b1-2", "b2", "l1", "x1"];

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
        let approved_last = |ids: &[&str]| {
            let own = || signed.iter().filter(|(_, _, by)| ids.contains(&by.as_str()));
            let last = own().map(|(at, ..)| at).max();
            // The last that they have signed, and no rejection in the same second.
            last.is_some_and(|last| {
                own().filter(|(at, ..)| at == last).all(|(_, it, _)| *it == Decision::Approve)
            })
        };
        let edit_counts = self.asked.iter().all(|spec| spec.edit_counts);
        let mut people = Vec::new();
        for person in PEOPLE.iter().filter(|id| !id.contains('-')) {
            let ids: Vec<&str> =
                PEOPLE.into_iter().filter(|id| id.split('-').next() == Some(person)).collect();
            let edited = ids.iter().any(|id| self.edited_by.contains(*id));
            let counting = || ids.iter().filter(|id| approved_last(&[id])).filter_map(|id| counts(id));
            if approved_last(&ids) && (edit_counts || !edited) && counting().next().is_some() {
                people.push(counting().flatten().collect::<BTreeSet<_>>());
            }
        }
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
        let Ok(state) = self.request.apply(event, now, &Directory, &counts) else { return false };
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
        self.standing.approved = self.request.satisfies(&spec, now, &Directory, &counts);
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
                    let lapsed = history.request.apply(RequestEvent::Lapsed, now, &Directory, &groups).is_ok();
                    if lapsed {
                        history.standing.state = transition(&history.standing, Event::Lapsed, now).unwrap().0;
                        prop_assert_eq!(history.standing.state, State::Expired);
                    }
                    false
                }
                Step::Cancel => {
                    let counts = history.counting();
                    let _ = history.request.apply(RequestEvent::Closed, now, &Directory, &counts);
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
                    if history.request.apply(RequestEvent::Asked(policy.clone()), now, &Directory, &counts).is_ok() {
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
