//! How many errors there are at most, at every moment at once and whatever the agents do.
//!
//! Nothing is assumed of the errors: an agent may err when it likes and know every draw of the past. What it cannot know
//! is the next draw, which selects each action with the probability π that was fixed before, independently of
//! everything else. For s > 0 take for each erroneous action the factor e^(−sξ) / (1 − π + π e^(−s)), with ξ = 1 if it
//! was drawn and 0 if not, and for each action that is right the factor 1. Given the past, the expectation of each
//! factor is 1, so that the product is a non-negative martingale that starts at 1. So is the average of the products
//! over a grid of s. By Ville's inequality (Étude critique de la notion de collectif, 1939) it ever reaches 1/α with
//! probability α at most. Whatever the number of errors in truth is, except with that probability it is therefore at
//! every moment among the numbers for which the average stays below 1/α, and the largest of those is the bound.
//! Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro (arXiv 2210.10768) derive bounds of this family.
//!
//! The product does not depend on the order, only on how many errors of each π were drawn and not drawn:
//! ln of it is Σ over errors of c(s), less s for each error that was drawn, where c(s) = −ln(1 − π(1 − e^(−s))).

use super::estimate::{Cell, merged};

/// The grid: a large s serves where no error was found (e^(−s) is then as good as 0), a small one where many were.
const GRID: [f64; 6] = [0.1, 0.25, 0.6, 1.5, 4.0, 20.0];

/// The most errors that are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtMost {
    /// Errors among all that was executed.
    pub errors: u64,
    /// Those that nobody has found: what was drawn and is not judged yet, and what may be wrong and was not drawn.
    pub undetected: u64,
}

/// How the bound comes about.
#[derive(Clone, Debug, PartialEq)]
pub struct Derivation {
    /// The bound.
    pub at_most: AtMost,
    /// Inclusion probabilities, the smallest first, and how many errors that were not drawn are possible with each. Those that
    /// follow the last one have none.
    pub unseen: Vec<(f64, u64)>,
    /// ln of the martingale with these errors, below ln 1/α.
    pub ln_value: f64,
    /// The same with one error more, which is not; `None` where all that was not drawn may be wrong.
    pub ln_with_one_more: Option<f64>,
}

/// The most errors among `cells` that a probability of `alpha` does not rule out.
///
/// While the cells grow, and whenever they are looked at, the bound is ever exceeded with probability `alpha` at most.
/// That is a promise on one population from its first action on: with another beginning it is another bound. A drawn
/// action counts as an error until it is judged. That is the worst it can be: to find it wrong multiplies the
/// martingale by at most 1, and so allows no fewer errors elsewhere than to find it right.
pub fn at_most(cells: &[Cell], alpha: f64) -> AtMost {
    derive(cells, alpha).at_most
}

/// The bound of [`at_most`] and how it comes about.
pub fn derive(cells: &[Cell], alpha: f64) -> Derivation {
    let cells = merged(cells);
    let found: u64 = cells.iter().map(|cell| cell.wrong).sum();
    let missing: u64 = cells.iter().map(|cell| cell.missing).sum();
    // Larger probabilities cost more for every s, so that the most errors fit if the smallest come first.
    let mut logarithms = cells.iter().fold([0.0; GRID.len()], |sum, cell| {
        let drawn = (cell.wrong + cell.missing) as f64;
        let cost = cost(cell.pi);
        std::array::from_fn(|n| sum[n] + drawn * (cost[n] - GRID[n]))
    });
    let mut unseen = Vec::with_capacity(cells.len());
    let mut ln_with_one_more = None;
    for cell in &cells {
        let cost = cost(cell.pi);
        let with = |errors: u64| std::array::from_fn(|n| logarithms[n] + errors as f64 * cost[n]);
        let undrawn = cell.executed.saturating_sub(cell.judged + cell.missing);
        let fits = largest(undrawn, |errors| ln_mean(&with(errors)) < -alpha.ln());
        ln_with_one_more = (fits < undrawn).then(|| ln_mean(&with(fits + 1)));
        logarithms = with(fits);
        unseen.push((cell.pi, fits));
        if ln_with_one_more.is_some() {
            break;
        }
    }
    let undetected = missing + unseen.iter().map(|(_, errors)| errors).sum::<u64>();
    let at_most = AtMost { errors: found + undetected, undetected };
    Derivation { at_most, unseen, ln_value: ln_mean(&logarithms), ln_with_one_more }
}

/// π rounded down to three significant digits, for whoever keeps counts by π and must bound how many there are.
///
/// The bound holds with it as with π itself: a smaller π makes both factors of an error smaller, so that the martingale
/// becomes a supermartingale, and the bound at most 1 % larger. A π of three digits stays as it is.
pub fn rounded(pi: f64) -> f64 {
    if pi <= 0.0 {
        return 0.0;
    }
    let unit = 10_f64.powi(pi.log10().floor() as i32 - 2);
    // What was calculated may lie a bit below a number of three digits.
    let digits = (pi / unit + 1e-9).floor();
    (digits / (1.0 / unit).round()).min(1.0)
}

/// c(s) on the grid: what an error with inclusion probability π adds to ln of the martingale if it was not drawn.
fn cost(pi: f64) -> [f64; GRID.len()] {
    GRID.map(|s| -(pi * (-s).exp_m1()).ln_1p())
}

/// ln of the average of e^x.
fn ln_mean(logarithms: &[f64; GRID.len()]) -> f64 {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logarithms.iter().map(|logarithm| (logarithm - largest).exp()).sum();
    largest + (sum / GRID.len() as f64).ln()
}

/// The largest number up to `max` that is allowed, if 0 is and a number is allowed whenever a larger one is.
pub(super) fn largest(max: u64, allowed: impl Fn(u64) -> bool) -> u64 {
    if allowed(max) {
        return max;
    }
    let (mut low, mut high) = (0, max);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if allowed(middle) { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::ALPHA;

    fn cell(pi: f64, executed: u64, judged: u64, wrong: u64) -> Cell {
        Cell { pi, executed, judged, wrong, missing: 0 }
    }

    /// ln of the martingale with `unseen` errors that were not drawn, written as it is defined.
    fn defined(pi: f64, found: i32, unseen: i32) -> f64 {
        let product = |s: f64| {
            let never = 1.0 - pi + pi * (-s).exp();
            ((-s).exp() / never).powi(found) * (1.0 / never).powi(unseen)
        };
        GRID.iter().map(|s| product(*s)).sum::<f64>() / GRID.len() as f64
    }

    #[test]
    fn it_is_the_largest_number_that_the_martingale_allows() {
        for (pi, found) in [(0.1, 0), (0.1, 4), (0.5, 10), (0.02, 1)] {
            let bound = at_most(&[cell(pi, 5_000, 200, found)], ALPHA).undetected as i32;
            let found = found as i32;
            assert!(
                defined(pi, found, bound) < 20.0 && defined(pi, found, bound + 1) >= 20.0,
                "{pi} {found}"
            );
        }
    }

    #[test]
    fn the_derivation_says_why_no_more_errors_are_possible() {
        let found = derive(&[cell(1.0, 600, 600, 1), cell(0.05, 20, 1, 0), cell(0.1, 1_000, 100, 0)], ALPHA);
        let [(smallest, all), (_, some)] = found.unseen[..] else { panic!("{found:?}") };
        assert_eq!((smallest, all, found.at_most.undetected), (0.05, 19, 19 + some));
        assert!(found.ln_value < 20_f64.ln() && found.ln_with_one_more.is_some_and(|ln| ln >= 20_f64.ln()));
        // Everything may be wrong, and one more is not there.
        assert_eq!(derive(&[cell(0.0, 50, 0, 0)], ALPHA).ln_with_one_more, None);
    }

    #[test]
    fn without_errors_it_is_a_little_above_the_bound_for_one_look() {
        // One look: 0.9^28 = 0.052, so that 28 are possible.
        let bound = at_most(&[cell(0.1, 1_000, 100, 0)], ALPHA);
        assert_eq!(bound, AtMost { errors: 36, undetected: 36 });
    }

    #[test]
    fn an_audit_counts_as_an_error_until_it_is_judged() {
        let waits = at_most(&[Cell { missing: 3, ..cell(0.1, 1_000, 97, 2) }], ALPHA);
        let wrong = at_most(&[cell(0.1, 1_000, 100, 5)], ALPHA);
        assert_eq!((waits.errors, waits.undetected), (wrong.errors, wrong.undetected + 3));
    }

    #[test]
    fn errors_lie_where_they_are_least_likely_to_be_drawn() {
        let bound = at_most(&[cell(1.0, 600, 600, 1), cell(0.05, 20, 1, 0), cell(0.1, 1_000, 100, 0)], ALPHA);
        // All 19 that were not drawn at 0.05, and some of the others; the census has told all it can.
        assert!(bound.undetected > 19 && bound.undetected < 60, "{bound:?}");
        assert_eq!(bound.errors, bound.undetected + 1);
        // What is never drawn may be all wrong.
        assert_eq!(at_most(&[cell(0.0, 50, 0, 0), cell(1.0, 10, 10, 0)], ALPHA).errors, 50);
    }

    #[test]
    fn a_rounded_probability_is_never_larger_and_costs_little() {
        for pi in [1.0, 0.5, 0.3, 0.1, 0.05, 0.025, 0.012, 0.001] {
            assert_eq!(rounded(pi), pi);
        }
        assert_eq!((rounded(0.1 * 3.0), rounded(0.0)), (0.3, 0.0));
        for n in 1..2_000 {
            let pi = f64::from(n) / 2_000.3;
            let less = rounded(pi);
            assert!(less <= pi + 1e-12 && less > 0.99 * pi, "{pi} {less}");
            let bound = |pi| at_most(&[cell(pi, 5_000, 100, 2)], ALPHA).undetected;
            assert!(bound(less) >= bound(pi), "{pi}");
        }
    }

    #[test]
    fn a_census_leaves_nothing_open() {
        assert_eq!(at_most(&[cell(1.0, 600, 600, 4)], ALPHA), AtMost { errors: 4, undetected: 0 });
        assert_eq!(at_most(&[], ALPHA), AtMost { errors: 0, undetected: 0 });
    }
}
