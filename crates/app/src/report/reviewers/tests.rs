use super::*;
use crate::report::comparison::Share;

fn row(reviewer: &str, decision: &str, seconds: f64) -> ReviewedCase {
    ReviewedCase {
        reviewer: reviewer.into(),
        rule: "r".into(),
        stratum: "r/t/a@1".into(),
        decision: decision.into(),
        changed: false,
        seconds: Some(seconds),
        stands: true,
        pi: 1.0,
        selected: true,
        finding: Some("correct".into()),
    }
}

/// `count` decisions of each of these, of which the first `rejected` are rejections.
fn rows(reviewers: &[(&'static str, usize, usize)]) -> Vec<ReviewedCase> {
    let of = |&(reviewer, count, rejected): &(&'static str, usize, usize)| {
        let decision = move |n: usize| if n < rejected { "reject" } else { "approve" };
        (0..count).map(move |n| row(reviewer, decision(n), n as f64))
    };
    reviewers.iter().flat_map(of).collect()
}

fn measured(rows: &[ReviewedCase], operator: bool, first: Option<&str>, gold: Gold) -> Vec<ReviewerLine> {
    let cases: Vec<Case<'_>> = rows.iter().map(|row| Case { person: &row.reviewer, row }).collect();
    let rules = Rules { minimum: 20, peers: if operator { 1 } else { PEERS } };
    lines(&cases, &Viewer { operator, first }, rules, |_| gold)
}

fn figure<T: Copy>(shown: &Shown<T>) -> Option<T> {
    match shown {
        Shown::Figure(figure) => Some(*figure),
        Shown::TooFew => None,
    }
}

fn people(lines: &[ReviewerLine]) -> Vec<Option<&str>> {
    lines.iter().filter(|line| line.rule.is_none()).map(|line| line.person.as_deref()).collect()
}

#[test]
fn everybody_is_named_to_operators_and_others_see_one_person_and_the_rest_together() {
    let rows = rows(&[("ann", 30, 3), ("bob", 30, 3), ("cy", 30, 3)]);
    let none = Gold::default();
    assert_eq!(people(&measured(&rows, true, Some("bob"), none)), [Some("bob"), Some("ann"), Some("cy")]);
    let seen = measured(&rows, false, Some("bob"), none);
    assert_eq!(people(&seen), [Some("bob"), None]);
    let others = seen.iter().find(|line| line.person.is_none()).unwrap();
    assert_eq!((others.people, others.cases), (2, 60));
    assert!(figure(&others.approved).is_some() && others.peers.is_none());
    assert_eq!(people(&measured(&rows, false, None, none)), [None]);
}

#[test]
fn a_single_peer_is_not_shown_as_an_aggregate_to_others_than_operators() {
    let rows = rows(&[("ann", 30, 3), ("bob", 30, 3)]);
    let seen = measured(&rows, false, Some("ann"), Gold::default());
    let others = seen.iter().find(|line| line.person.is_none()).unwrap();
    assert_eq!((figure(&others.approved), figure(&others.time)), (None, None));
    let beside = |lines: &[ReviewerLine]| {
        let line = lines.iter().find(|line| line.person.as_deref() == Some("ann") && line.stratum.is_some());
        figure(line.unwrap().peers.as_ref().unwrap())
    };
    assert!(beside(&seen).is_none());
    assert_eq!(beside(&measured(&rows, true, Some("ann"), Gold::default())).unwrap().people, 1);
}

#[test]
fn fewer_cases_than_the_minimum_give_no_figure() {
    let lines = measured(&rows(&[("ann", 19, 3), ("bob", 400, 40)]), true, None, Gold::default());
    let ann = &lines[0];
    assert_eq!((ann.person.as_deref(), ann.cases, figure(&ann.approved)), (Some("ann"), 19, None));
    assert!(figure(&ann.changed).is_none() && figure(&ann.time).is_none());
    let json = serde_json::to_value(ann).unwrap();
    assert_eq!(json["approved"], "too_few");
    // Bob's figures are shown, but not beside nineteen cases of a peer.
    let bob =
        lines.iter().find(|line| line.person.as_deref() == Some("bob") && line.stratum.is_some()).unwrap();
    assert!(figure(&bob.approved).is_some_and(|share| share.rate == 0.9));
    assert!(bob.peers.as_ref().is_some_and(|peers| figure(peers).is_none()));
}

#[test]
fn a_reviewer_who_approves_more_than_peers_is_seen_with_an_interval() {
    let lines =
        measured(&rows(&[("ann", 100, 0), ("bob", 100, 40), ("cy", 100, 40)]), true, None, Gold::default());
    let ann =
        lines.iter().find(|line| line.person.as_deref() == Some("ann") && line.stratum.is_some()).unwrap();
    let found = figure(ann.peers.as_ref().unwrap()).unwrap();
    assert!((found.difference - 0.4).abs() < 1e-12 && found.lower > 0.2 && found.upper < 0.6, "{found:?}");
    assert_eq!((found.people, found.peers.cases, found.peers.positive), (2, 200, 120));
    // Three lines of a kind hold together.
    assert!((ann.confidence - 0.95_f64.powf(1.0 / 3.0)).abs() < 1e-12);
}

#[test]
fn what_auditors_found_is_weighed_by_inclusion_probability() {
    // 40 approvals, audited all, 10 wrong; 160 approvals at 0.25, of which 40 were drawn and none was wrong.
    let audited = |n: usize, wrong: usize| ReviewedCase {
        finding: Some(if n < wrong { "wrong" } else { "correct" }.into()),
        ..row("ann", "approve", 1.0)
    };
    let seldom = |n: usize| match n < 40 {
        true => ReviewedCase { pi: 0.25, ..audited(n, 0) },
        false => ReviewedCase { pi: 0.25, selected: false, finding: None, ..audited(n, 0) },
    };
    let mut rows: Vec<ReviewedCase> = (0..40).map(|n| audited(n, 10)).chain((0..160).map(seldom)).collect();
    let found = |rows: &[ReviewedCase]| {
        figure(&measured(rows, true, None, Gold::default())[0].approved_wrong).unwrap()
    };
    let share = found(&rows);
    assert_eq!((share.cases, share.positive), (80, 10));
    // 10 of 200, and not 10 of 80.
    assert!((share.rate - 0.05).abs() < 1e-12 && share.lower < 0.05 && share.upper > 0.05, "{share:?}");
    // What was approved and not executed as it was, and what others decided otherwise, counts for nobody.
    rows.extend((0..50).map(|n| ReviewedCase { stands: false, ..audited(n, 50) }));
    assert_eq!(found(&rows), share);
}

#[test]
fn overturned_rejections_changed_minds_and_known_items_have_figures_of_their_own() {
    let mut rows = rows(&[("ann", 60, 30)]);
    rows.iter_mut()
        .filter(|row| row.decision == "reject")
        .take(6)
        .for_each(|row| row.finding = Some("wrong".into()));
    rows.iter_mut().take(3).for_each(|row| row.changed = true);
    let line = &measured(&rows, true, None, [[20, 15], [19, 19]])[0];
    let rate = |shown: &Shown<Share>| figure(shown).map(|share| share.rate);
    assert_eq!((rate(&line.rejected_wrong), rate(&line.changed)), (Some(0.2), Some(0.05)));
    assert_eq!(rate(&line.approved_wrong), Some(0.0));
    let gold = line.gold.unwrap();
    assert_eq!((rate(&gold.sensitivity), rate(&gold.specificity)), (Some(0.75), None));
    // Sixty times from 0 to 59.
    let times = figure(&line.time).unwrap();
    assert!((times.median.seconds - 29.5).abs() < 1e-12, "{times:?}");
    assert!(times.p10.seconds < times.median.seconds && times.p90.upper.is_some());
}
