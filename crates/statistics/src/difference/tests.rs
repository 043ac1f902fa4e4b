use super::*;
use crate::estimate::ALPHA;

fn cell(score: f64, pi: f64, executed: u64, judged: u64, wrong: u64) -> ScoredCell {
    ScoredCell { score, cell: Cell { pi, executed, judged, wrong, missing: 0 } }
}

#[test]
fn it_is_what_the_scores_predict_put_right_by_what_audits_found_otherwise() {
    let cells = [cell(0.01, 0.1, 1_000, 100, 2), cell(0.3, 0.5, 100, 50, 10)];
    let found = difference(&cells, ALPHA);
    // 10 + (2 − 1) / 0.1 + 30 + (10 − 15) / 0.5
    assert!((found.errors.unwrap() - 40.0).abs() < 1e-9, "{found:?}");
    assert!(found.interval.contains(40.0 / 1_100.0), "{found:?}");
}

#[test]
fn without_help_of_the_scores_it_weighs_each_error_by_its_probability() {
    let found = difference(&[cell(0.0, 0.1, 1_000, 90, 3), cell(0.0, 0.5, 100, 50, 4)], ALPHA);
    assert!((found.errors.unwrap() - 38.0).abs() < 1e-9, "{found:?}");
}

#[test]
fn right_scores_make_it_exact_whoever_is_drawn() {
    let found = difference(&[cell(0.0, 0.1, 1_000, 80, 0), cell(1.0, 0.1, 50, 7, 7)], ALPHA);
    assert_eq!(found.errors, Some(50.0));
}

#[test]
fn a_census_is_exact_whatever_the_scores() {
    for pi in [1.0, 0.25] {
        let found = difference(&[cell(0.9, pi, 40, 40, 10), cell(0.0, pi, 60, 60, 1)], ALPHA);
        assert!((found.rate.unwrap() - 0.11).abs() < 1e-12, "{found:?}");
        assert!(
            (found.interval.lower - 0.11).abs() < 1e-12 && (found.interval.upper - 0.11).abs() < 1e-12,
            "{found:?}"
        );
    }
}

#[test]
fn audits_that_wait_widen_the_interval_and_leave_the_estimate() {
    let all = difference(&[cell(0.02, 0.1, 1_000, 100, 4)], ALPHA);
    let some = difference(
        &[ScoredCell {
            score: 0.02,
            cell: Cell { pi: 0.1, executed: 1_000, judged: 50, wrong: 2, missing: 50 },
        }],
        ALPHA,
    );
    assert!((all.errors.unwrap() - some.errors.unwrap()).abs() < 1e-9, "{all:?} {some:?}");
    assert!(some.interval.upper > all.interval.upper + 0.3 && some.interval.lower < all.interval.lower);
    let nothing =
        ScoredCell { score: 0.5, cell: Cell { pi: 0.5, executed: 20, judged: 0, wrong: 0, missing: 10 } };
    assert_eq!(difference(&[cell(0.02, 0.1, 1_000, 100, 4), nothing], ALPHA).errors, None);
}

#[test]
fn low_scores_hide_nothing_that_was_not_looked_at() {
    // The scores say that nothing of it is wrong, and only 20 of 2,000 were looked at.
    let found = difference(&[cell(0.0, 0.01, 2_000, 20, 0), cell(0.5, 0.5, 200, 100, 50)], ALPHA);
    assert!(found.interval.upper > (100.0 + 2.9 / 0.01) / 2_200.0, "{found:?}");
    // What is never drawn may be all wrong.
    let never = difference(&[cell(0.0, 0.0, 100, 0, 0), cell(0.0, 1.0, 100, 100, 0)], ALPHA);
    assert!((never.interval.upper - 0.5).abs() < 1e-12, "{never:?}");
}

#[test]
fn the_interval_is_where_the_product_stays_below_the_limit() {
    // One cell, one s: the product as it is defined, with k errors among the 900 that were not drawn.
    let (f, pi, s) = (0.05, 0.1, 0.08_f64);
    let product = Product::of(&[cell(f, pi, 1_000, 100, 7)], s);
    let factor = |y: f64, drawn: f64| {
        let exponent = -s * (y - f) / pi;
        (drawn * exponent) - (1.0 - pi + pi * exponent.exp()).ln()
    };
    for k in [0_u64, 10, 500, 900] {
        let defined = 7.0 * factor(1.0, 1.0)
            + 93.0 * factor(0.0, 1.0)
            + k as f64 * factor(1.0, 0.0)
            + (900 - k) as f64 * factor(0.0, 0.0);
        assert!((product.with(k) - defined).abs() < 1e-9, "{k}");
    }
}

#[test]
fn good_scores_save_audits_and_useless_ones_save_none() {
    // 200 of 10,000 are wrong, nine in ten of them among the 1,000 that the score suspects.
    let good = difference(&[cell(0.002, 0.05, 9_000, 450, 1), cell(0.18, 0.5, 1_000, 500, 90)], ALPHA);
    assert!(good.uniform.unwrap() > 1.5 * 950.0, "{good:?}");
    let useless = difference(&[cell(0.02, 0.1, 10_000, 1_000, 20)], ALPHA);
    assert!((useless.uniform.unwrap() - 1_000.0).abs() < 5.0, "{useless:?}");
    assert_eq!(difference(&[cell(0.02, 0.1, 10_000, 1_000, 9)], ALPHA).uniform, None);
}

#[test]
fn where_nothing_was_executed_nothing_is_known() {
    let unknown = Difference { errors: None, rate: None, interval: Interval::UNKNOWN, uniform: None };
    assert_eq!(difference(&[], ALPHA), unknown);
    assert_eq!(difference(&[cell(0.1, 0.1, 50, 0, 0)], ALPHA).errors, None);
}
