use proptest::prelude::*;

use super::*;
use crate::{anytime::at_most, fixtures::rows};

fn cell(pi: f64, executed: u64, judged: u64, wrong: u64) -> Cell {
    Cell { pi, executed, judged, wrong, missing: 0 }
}

fn estimated(cells: &[Cell]) -> Estimate {
    estimate(cells, ALPHA)
}

#[test]
fn with_one_probability_it_is_the_plain_interval() {
    let found = estimated(&[cell(0.1, 1_000, 100, 7)]);
    assert_eq!((found.errors, found.rate), (Some(70.0), Some(0.07)));
    let plain = clopper_pearson(7.0, 100.0, 0.05);
    // The variance has n − 1 in it, Clopper and Pearson's interval has n.
    assert!((found.interval.lower - plain.lower).abs() < 2e-3, "{found:?} {plain:?}");
    assert!((found.interval.upper - plain.upper).abs() < 2e-3, "{found:?} {plain:?}");
    assert_eq!(found.undetected, Some(63.0));
    let none = estimated(&[cell(0.1, 1_000, 100, 0)]);
    assert_eq!(none.interval, clopper_pearson(0.0, 100.0, 0.05));
}

#[test]
fn errors_in_what_is_seldom_drawn_weigh_more() {
    let found = estimated(&[cell(0.5, 1_000, 500, 0), cell(0.05, 1_000, 50, 5)]);
    assert_eq!(found.errors, Some(100.0));
    assert!((found.rate.unwrap() - 0.05).abs() < 1e-12);
    assert!(found.interval.contains(0.05) && found.interval.upper < 0.12, "{found:?}");
}

#[test]
fn a_census_says_nothing_about_what_was_not_drawn() {
    // Of 200 at π = 0.05, 71 may be wrong and none of them drawn: 0.95^71 = 0.026.
    let found = estimated(&[cell(1.0, 600, 600, 0), cell(0.05, 200, 10, 0)]);
    assert_eq!(found.interval, Interval { lower: 0.0, upper: 71.0 / 800.0 });
    // The same of right ones where all that was drawn is wrong.
    let found = estimated(&[cell(1.0, 600, 600, 600), cell(0.05, 200, 10, 10)]);
    assert_eq!(found.interval, Interval { lower: 729.0 / 800.0, upper: 1.0 });
}

#[test]
fn few_audits_that_find_nothing_do_not_hide_errors_behind_many_that_do() {
    // 343 at π = 0.02, of which 7 were drawn and found right; the other cells are well known.
    let cells = [cell(0.58, 1_691, 980, 195), cell(1.0, 297, 297, 10), cell(0.02, 343, 7, 0)];
    let (small, interval) = (clopper_pearson(0.0, 7.0, 0.05).upper, estimated(&cells).interval);
    assert!(interval.upper > (336.0 + 10.0 + 343.0 * small) / 2_331.0, "{interval:?}");
}

#[test]
fn finding_errors_does_not_hide_what_nobody_looked_at() {
    let cells = |wrong| [cell(0.001, 900, 0, 0), cell(0.5, 100, 50, wrong)];
    let (clean, wrong) = (estimated(&cells(0)), estimated(&cells(5)));
    assert!(clean.interval.upper > 0.9 && wrong.interval.upper > 0.9, "{clean:?} {wrong:?}");
    assert_eq!((wrong.errors, wrong.rate), (Some(10.0), Some(0.1)));
}

#[test]
fn strata_with_the_same_probability_are_as_one() {
    let many: Vec<Cell> = (0..50).map(|n| cell(0.1, 10, 1, u64::from(n < 5))).collect();
    assert_eq!(estimated(&many), estimated(&[cell(0.1, 500, 50, 5)]));
}

#[test]
fn audits_that_wait_do_not_lower_the_number_of_errors() {
    let waits = Cell { missing: 50, ..cell(0.1, 1_000, 50, 5) };
    let found = estimated(&[waits]);
    assert_eq!((found.errors, found.rate, found.undetected), (Some(100.0), Some(0.1), Some(95.0)));
    // A cell of which nothing is judged leaves the number unknown.
    let found = estimated(&[waits, Cell { missing: 20, ..cell(1.0, 20, 0, 0) }]);
    assert_eq!((found.errors, found.rate, found.undetected), (None, Some(0.1), None));
}

#[test]
fn missing_audits_widen_the_interval_to_both_sides() {
    let all = estimated(&[cell(0.1, 1_000, 100, 5)]);
    let some = estimated(&[Cell { missing: 20, ..cell(0.1, 1_000, 100, 5) }]);
    assert_eq!(all.rate, some.rate);
    assert!(some.interval.upper > all.interval.upper + 0.1 && some.interval.lower < all.interval.lower);
}

#[test]
fn a_census_is_exact() {
    let third = 1.0 / 3.0;
    let found = estimated(&[cell(1.0, 3, 3, 1)]);
    assert_eq!((found.errors, found.rate, found.undetected), (Some(1.0), Some(third), Some(0.0)));
    assert_eq!(found.interval, Interval { lower: third, upper: third });
    // Also one by chance, and one of two cells.
    assert_eq!(estimated(&[cell(0.5, 3, 3, 1)]).interval, found.interval);
    assert_eq!(estimated(&[cell(0.5, 2, 2, 1), cell(1.0, 1, 1, 0)]).interval, found.interval);
    // While one of four waits, it may be right or wrong.
    let waits = estimated(&[Cell { missing: 1, ..cell(1.0, 4, 3, 1) }]);
    assert_eq!(waits.interval, Interval { lower: 0.25, upper: 0.5 });
}

#[test]
fn small_cells_are_estimated_together() {
    // Ten cells of 20 at about π = 0.05: only four of them have an audit, and one of the four is wrong.
    let cells: Vec<Cell> =
        (0..10).map(|n| cell(0.05 + f64::from(n) * 1e-6, 20, u64::from(n < 4), u64::from(n == 0))).collect();
    let found = estimated(&cells);
    assert!((found.errors.unwrap() - 50.0).abs() < 0.1, "{found:?}");
}

#[test]
fn without_audits_nothing_is_known() {
    for cells in [vec![], vec![cell(0.1, 1_000, 0, 0)], vec![cell(0.0, 1_000, 0, 0)]] {
        let found = estimated(&cells);
        let unknown = Estimate { errors: None, rate: None, interval: Interval::UNKNOWN, undetected: None };
        assert_eq!(found, unknown);
    }
}

#[test]
fn what_is_never_drawn_may_be_all_wrong_or_all_right() {
    let found = estimated(&[cell(0.0, 900, 0, 0), cell(1.0, 100, 100, 10)]);
    assert_eq!(found.interval, Interval { lower: 0.01, upper: 0.91 });
    assert_eq!(found.errors, Some(10.0));
}

#[test]
fn intervals_that_hold_together_are_each_wider() {
    assert!((each_of(1, 0.05) - 0.05).abs() < 1e-15);
    assert!((each_of(50, 0.05) - (1.0 - 0.95_f64.powf(0.02))).abs() < 1e-15);
}

fn any_cell() -> impl Strategy<Value = Cell> {
    (0.0..=1.0_f64, 0..60_u64, 0..60_u64, 0..60_u64, 0..60_u64).prop_map(
        |(pi, undrawn, right, wrong, missing)| {
            let drawn = if pi > 0.0 { right + wrong + missing } else { 0 };
            let undrawn = if pi < 1.0 { undrawn } else { 0 };
            let (judged, wrong, missing) =
                if drawn > 0 { (right + wrong, wrong, missing) } else { (0, 0, 0) };
            Cell { pi, executed: undrawn + drawn, judged, wrong, missing }
        },
    )
}

proptest! {
    #[test]
    fn the_interval_contains_the_rate_and_respects_what_was_judged(
        cells in proptest::collection::vec(any_cell(), 0..5),
    ) {
        let found = estimated(&cells);
        let Interval { lower, upper } = found.interval;
        prop_assert!(0.0 <= lower && lower <= upper && upper <= 1.0, "{found:?}");
        if let Some(rate) = found.rate {
            prop_assert!(found.interval.contains(rate), "{found:?}");
        }
        let sum = |pick: fn(&Cell) -> u64| cells.iter().map(pick).sum::<u64>() as f64;
        let (executed, wrong) = (sum(|cell| cell.executed), sum(|cell| cell.wrong));
        if executed > 0.0 {
            prop_assert!(lower >= wrong / executed - 1e-12);
            prop_assert!(upper <= 1.0 - (sum(|cell| cell.judged) - wrong) / executed + 1e-12);
        }
    }

    #[test]
    fn a_smaller_alpha_gives_a_wider_interval(cells in proptest::collection::vec(any_cell(), 0..5)) {
        let (narrow, wide) = (estimate(&cells, 0.05).interval, estimate(&cells, 0.001).interval);
        prop_assert!(wide.lower <= narrow.lower && narrow.upper <= wide.upper, "{narrow:?} {wide:?}");
    }
}

#[test]
fn unequal_probabilities_cost_effective_audits() {
    let cell = |pi, executed, judged| Cell { pi, executed, judged, wrong: 0, missing: 0 };
    assert_eq!(effective_audits(&[cell(0.1, 1_000, 100), cell(0.1, 500, 50)]), 150.0);
    // (1,000 + 1,000)² / (1,000² / 100 + 1,000² / 50)
    let unequal = effective_audits(&[cell(0.1, 1_000, 100), cell(0.05, 1_000, 50)]);
    assert!((unequal - 4.0e6 / 3.0e4).abs() < 1e-9, "{unequal}");
    assert_eq!(effective_audits(&[cell(0.1, 1_000, 0)]), 0.0);
}

#[test]
fn it_agrees_with_the_script_that_anybody_can_run() {
    for row in rows(include_str!("../../fixtures/estimates.tsv")) {
        let (cells, [rate, lower, upper, errors, undetected]) = row.split_at(row.len() - 5) else {
            panic!("{row:?}")
        };
        let cells: Vec<Cell> = cells
            .chunks_exact(5)
            .map(|cell| {
                let [executed, drawn, judged, wrong] = [1, 2, 3, 4].map(|at| cell[at] as u64);
                Cell { pi: cell[0], executed, judged, wrong, missing: drawn - judged }
            })
            .collect();
        let (found, bound) = (estimated(&cells), at_most(&cells, ALPHA));
        let got = [found.rate.unwrap(), found.interval.lower, found.interval.upper];
        for (got, expected) in got.iter().zip([rate, lower, upper]) {
            assert!((got - expected).abs() < 1e-9, "{row:?} {found:?}");
        }
        assert_eq!([bound.errors as f64, bound.undetected as f64], [*errors, *undetected], "{row:?}");
    }
}
