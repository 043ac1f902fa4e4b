use super::*;

const LEVEL: f64 = 0.05;

fn row(
    group: &str,
    later: bool,
    measure: Measure,
    pi: f64,
    block: u32,
    [judged, positive]: [u64; 2],
) -> GroupCounts {
    GroupCounts {
        known: true,
        group: Some(vec![group.into()]),
        later,
        measure,
        pi,
        block,
        executed: (judged as f64 / pi).round() as u64,
        judged,
        positive,
        missing: 0,
    }
}

/// Twenty blocks of ten findings, so many of them wrong.
fn group(rows: &mut Vec<GroupCounts>, name: &str, later: bool, wrong: u64) {
    rows.push(row(name, later, Measure::Actions, 1.0, 1, [400, 0]));
    rows.extend((1..=20).map(|block| row(name, later, Measure::Rejected, 1.0, block, [10, 1])));
    rows.extend((1..=20).map(|block| row(name, later, Measure::Wrong, 0.5, block, [10, wrong])));
}

#[test]
fn a_group_that_errs_more_often_is_flagged_and_one_that_does_not_is_not() {
    let mut rows = Vec::new();
    for (name, wrong) in [("east", 1), ("north", 1), ("south", 5)] {
        group(&mut rows, name, false, wrong);
    }
    rows.push(GroupCounts { group: None, ..row("", false, Measure::Actions, 1.0, 1, [7, 0]) });
    rows.push(GroupCounts { group: None, known: false, ..row("", false, Measure::Actions, 1.0, 1, [9, 0]) });
    let counted = Counted::of(&rows, 20);
    assert_eq!((counted.actions, counted.not_listed, counted.not_known), (1_216, 7, 9));
    let (groups, reference) = compared(&counted, false, Some("north".into()), 30, LEVEL);
    assert_eq!(reference.as_deref(), Some("north"));
    let names: Vec<&str> = groups.iter().map(|group| group.group[0].as_str()).collect();
    assert_eq!(names, ["north", "east", "south"]);
    assert!(groups[0].wrong.rate.is_some() && groups[0].wrong.compared.is_none());
    let flags = |pick: fn(&Group) -> &Measured| -> Vec<bool> {
        groups[1..].iter().map(|group| pick(group).compared.unwrap().flagged).collect()
    };
    assert_eq!(
        (flags(|group| &group.wrong), flags(|group| &group.rejected)),
        (vec![false, true], vec![false, false])
    );
    let south = groups[2].wrong.compared.unwrap();
    assert!((south.difference - 0.4).abs() < 1e-12 && (south.ratio.unwrap() - 5.0).abs() < 1e-12);
    assert!(
        south.lower > 0.2 && south.upper < 0.6 && south.visible.is_some_and(|least| least < 0.3),
        "{south:?}"
    );
}

#[test]
fn the_largest_group_is_the_reference_if_none_is_named() {
    let mut rows = Vec::new();
    group(&mut rows, "east", false, 1);
    group(&mut rows, "north", false, 1);
    rows.push(row("north", false, Measure::Actions, 1.0, 2, [1, 0]));
    let counted = Counted::of(&rows, 20);
    assert_eq!(compared(&counted, false, None, 30, LEVEL).1.as_deref(), Some("north"));
    // Without a reference the rates stand alone.
    let (groups, reference) = compared(&counted, false, Some("west".into()), 30, LEVEL);
    assert!(
        reference.is_none() && groups.iter().all(|group| group.wrong.compared.is_none()) && groups.len() == 2
    );
}

#[test]
fn drift_is_a_difference_to_the_same_group_before() {
    let mut rows = Vec::new();
    for (name, wrong) in [("a", 6), ("b", 1)] {
        group(&mut rows, name, false, 1);
        group(&mut rows, name, true, wrong);
    }
    let (groups, _) = compared(&Counted::of(&rows, 20), true, None, 30, LEVEL);
    let [a, b] = &groups[..] else { panic!("{groups:?}") };
    assert_eq!([a, b].map(|group| group.wrong.compared.unwrap().flagged), [true, false]);
    assert_eq!([a.wrong.rate, a.wrong.reference].map(|share| share.unwrap().rate), [0.6, 0.1]);
    assert_eq!(a.actions, 800);
}

#[test]
fn rates_of_few_cases_are_suppressed() {
    let mut rows = vec![row("small", false, Measure::Actions, 1.0, 1, [400, 0])];
    group(&mut rows, "large", false, 1);
    rows.push(row("small", false, Measure::Wrong, 0.5, 1, [29, 29]));
    let counted = Counted::of(&rows, 20);
    let wrong = |least| compared(&counted, false, Some("large".into()), least, LEVEL).0[1].wrong.clone();
    assert!(wrong(30).rate.is_none() && wrong(30).compared.is_none() && wrong(29).compared.is_some());
    // And so is everything that would be compared with a reference of few cases.
    let of_small = compared(&counted, false, Some("small".into()), 30, LEVEL).0;
    assert!(of_small[1].wrong.rate.is_some() && of_small[1].wrong.compared.is_none());
}
