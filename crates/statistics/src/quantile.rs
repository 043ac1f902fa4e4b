//! Quantiles of a sample, with intervals that assume nothing of its distribution.

use statrs::function::beta::beta_reg;

/// A quantile with an interval between two values of the sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// The quantile of the sample, interpolated linearly between its neighbours.
    pub value: f64,
    /// The lower end; `None` where the sample is too small for one.
    pub lower: Option<f64>,
    /// The upper end; `None` where the sample is too small for one.
    pub upper: Option<f64>,
}

/// The quantile `p` (0 to 1) of a sample that is sorted, with an interval that misses that of the population with probability
/// `alpha` at most, half on each side. `None` without values.
///
/// The number of values below the population's quantile is binomial with `p`, whatever the distribution. So the quantile is
/// below the value of rank l with the probability that at most l − 1 values are below it, and above that of rank u with the
/// probability that at least u are (David and Nagaraja, Order Statistics, 3rd edition, 2003, section 7.1).
pub fn quantile(sorted: &[f64], p: f64, alpha: f64) -> Option<Quantile> {
    let last = sorted.len().checked_sub(1)?;
    let at = p.clamp(0.0, 1.0) * last as f64;
    let [below, above] = [at.floor(), at.ceil()].map(|rank| sorted.get(rank as usize).copied());
    let value = below? + (above? - below?) * at.fract();
    let count = sorted.len() as u64;
    // Ranks count from 1.
    let lower = (1..=count).take_while(|rank| at_most(rank - 1, count, p) <= alpha / 2.0).last();
    let upper = (1..=count).rev().take_while(|rank| 1.0 - at_most(rank - 1, count, p) <= alpha / 2.0).last();
    let value_of = |rank: u64| sorted.get(usize::try_from(rank).ok()?.checked_sub(1)?).copied();
    Some(Quantile { value, lower: lower.and_then(value_of), upper: upper.and_then(value_of) })
}

/// The probability that a binomial number is at most `k`.
fn at_most(k: u64, n: u64, p: f64) -> f64 {
    if k >= n { 1.0 } else { beta_reg((n - k) as f64, k as f64 + 1.0, 1.0 - p) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::Dice;

    fn numbers(count: u32) -> Vec<f64> {
        (1..=count).map(f64::from).collect()
    }

    #[test]
    fn the_interval_of_a_median_is_that_of_the_sign_test() {
        // Tables of the sign test: with 20 values the 6th and the 15th, with 10 the 2nd and the 9th.
        let twenty = quantile(&numbers(20), 0.5, 0.05).unwrap();
        assert_eq!(twenty, Quantile { value: 10.5, lower: Some(6.0), upper: Some(15.0) });
        let ten = quantile(&numbers(10), 0.5, 0.05).unwrap();
        assert_eq!((ten.lower, ten.upper), (Some(2.0), Some(9.0)));
    }

    #[test]
    fn a_small_sample_says_nothing_of_its_tails() {
        let found = quantile(&numbers(20), 0.9, 0.05).unwrap();
        assert!((found.value - 18.1).abs() < 1e-12 && found.lower.is_some() && found.upper.is_none());
        assert!(quantile(&numbers(20), 0.1, 0.05).unwrap().lower.is_none());
        assert!(quantile(&numbers(200), 0.9, 0.05).unwrap().upper.is_some());
        assert_eq!(quantile(&[], 0.5, 0.05), None);
    }

    #[test]
    fn the_interval_contains_the_populations_quantile_as_often_as_it_says() {
        let mut dice = Dice::new(11);
        for p in [0.1, 0.5, 0.9] {
            let missed = (0..2_000).filter(|_| {
                // Squares of uniform numbers: far from symmetric.
                let mut sample: Vec<f64> = (0..60).map(|_| dice.unit().powi(2)).collect();
                sample.sort_by(f64::total_cmp);
                let found = quantile(&sample, p, 0.05).unwrap();
                let truth = f64::powi(p, 2);
                found.lower.is_some_and(|lower| truth < lower)
                    || found.upper.is_some_and(|upper| truth > upper)
            });
            let missed = missed.count();
            assert!(missed <= 125, "{p}: {missed} of 2,000");
        }
    }
}
