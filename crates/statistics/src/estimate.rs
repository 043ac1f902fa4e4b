//! Error rates from audits that were drawn with unequal probabilities.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::binomial::{Interval, clopper_pearson};

/// Audited and judged actions of one stratum with one inclusion probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Which stratum, as a number of the caller's.
    pub stratum: usize,
    /// The inclusion probability π of each: above 0, at most 1.
    pub pi: f64,
    /// Drawn and judged, right or wrong.
    pub judged: u64,
    /// Judged wrong.
    pub wrong: u64,
    /// Drawn and not judged yet.
    pub missing: u64,
}

/// What is estimated of a population of executed actions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Horvitz and Thompson's estimate of the number of errors: Σ 1/π over what was found wrong (JASA 47, 1952).
    pub errors: f64,
    /// Hájek's estimate of the rate: that, divided by the estimated number of actions, Σ 1/π. `None` without audits.
    pub rate: Option<f64>,
    /// 95 % interval of the rate: Korn and Graubard (Survey Methodology 24, 1998), or where no error was found the
    /// stratified bound of [`bound_without_errors`]. Missing audits widen it: they count as right below, wrong above.
    pub interval: Interval,
    /// Errors among what nobody has audited: `errors` less those that were found.
    pub undetected: f64,
}

const ALPHA: f64 = 0.05;

/// Estimates the error rate of `executed` actions by stratum, of which `groups` were drawn. The number of strata is
/// the length of `executed`; groups of others are left out.
pub fn estimate(executed: &[u64], groups: &[Group]) -> Estimate {
    let groups: Vec<Group> =
        groups.iter().copied().filter(|group| group.stratum < executed.len() && group.pi > 0.0).collect();
    let found: u64 = groups.iter().map(|group| group.wrong).sum();
    // The sum of nothing is -0.0, which would be printed as such.
    let errors = 0.0 + groups.iter().map(|group| group.wrong as f64 / group.pi).sum::<f64>();
    let weight: f64 = groups.iter().map(|group| group.judged as f64 / group.pi).sum();
    // A missing audit may be found right or wrong.
    let settled = |wrong: bool| -> Vec<Group> {
        let settle = |group: &Group| Group {
            judged: group.judged + group.missing,
            wrong: group.wrong + if wrong { group.missing } else { 0 },
            missing: 0,
            ..*group
        };
        groups.iter().map(settle).collect()
    };
    Estimate {
        errors,
        rate: (weight > 0.0).then(|| errors / weight),
        interval: Interval {
            lower: interval(executed, &settled(false)).lower,
            upper: interval(executed, &settled(true)).upper,
        },
        undetected: (errors - found as f64).max(0.0),
    }
}

/// The interval of the rate where every audit that was drawn is judged.
fn interval(executed: &[u64], groups: &[Group]) -> Interval {
    let judged: f64 = groups.iter().map(|group| group.judged as f64).sum();
    let weight: f64 = groups.iter().map(|group| group.judged as f64 / group.pi).sum();
    let wrong: f64 = groups.iter().map(|group| group.wrong as f64 / group.pi).sum();
    if judged == 0.0 {
        return Interval::UNKNOWN;
    }
    if wrong == 0.0 {
        return Interval { lower: 0.0, upper: bound_without_errors(executed, groups, ALPHA / 2.0) };
    }
    let rate = wrong / weight;
    if wrong >= weight {
        let right = |group: &Group| Group { wrong: 0, ..*group };
        let mirrored: Vec<Group> = groups.iter().map(right).collect();
        return Interval { lower: 1.0 - bound_without_errors(executed, &mirrored, ALPHA / 2.0), upper: 1.0 };
    }
    // The linearised variance of a ratio under a Poisson design with replacement, from what was drawn.
    let square = |group: &Group| {
        let (wrong, right) = (group.wrong as f64, (group.judged - group.wrong) as f64);
        (wrong * (1.0 - rate).powi(2) + right * rate.powi(2)) / group.pi.powi(2)
    };
    let spread: f64 = groups.iter().map(square).sum();
    let variance = spread / weight.powi(2) * judged / (judged - 1.0).max(1.0);
    let effective = (rate * (1.0 - rate) / variance).min(judged) * narrowed(judged, groups);
    clopper_pearson(rate * effective, effective, ALPHA)
}

/// Korn and Graubard's factor for the degrees of freedom that strata take away: (t(n−1) / t(n−H))².
fn narrowed(judged: f64, groups: &[Group]) -> f64 {
    let mut strata: Vec<usize> =
        groups.iter().filter(|group| group.judged > 0).map(|group| group.stratum).collect();
    strata.sort_unstable();
    strata.dedup();
    let quantile = |freedom: f64| {
        StudentsT::new(0.0, 1.0, freedom.max(1.0)).map_or(f64::INFINITY, |t| t.inverse_cdf(1.0 - ALPHA / 2.0))
    };
    (quantile(judged - 1.0) / quantile(judged - strata.len() as f64)).powi(2).min(1.0)
}

/// The largest overall rate that `alpha` does not rule out where no audit has found an error: the maximum of Σ W·p over
/// strata with Π (1 − p)^n ≥ alpha, W being a stratum's share of what was executed. By Lagrange's condition the best
/// share of right ones is min(1, μ·n/W) in each stratum; μ is found by bisection. A stratum without audits may be all
/// wrong.
pub fn bound_without_errors(executed: &[u64], groups: &[Group], alpha: f64) -> f64 {
    let all: u64 = executed.iter().sum();
    if all == 0 {
        return 1.0;
    }
    let strata: Vec<(f64, f64)> = executed
        .iter()
        .enumerate()
        .map(|(stratum, executed)| {
            let judged = groups.iter().filter(|group| group.stratum == stratum).map(|group| group.judged);
            (*executed as f64 / all as f64, judged.sum::<u64>() as f64)
        })
        .filter(|(share, _)| *share > 0.0)
        .collect();
    let right = |mu: f64, (share, judged): (f64, f64)| (mu * judged / share).min(1.0);
    let likelihood = |mu: f64| -> f64 {
        let audited = strata.iter().filter(|(_, judged)| *judged > 0.0);
        audited.map(|stratum| stratum.1 * right(mu, *stratum).ln()).sum()
    };
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..200 {
        let middle = low + (high - low) / 2.0;
        if likelihood(middle) < alpha.ln() { low = middle } else { high = middle }
    }
    strata.iter().map(|stratum| stratum.0 * (1.0 - right(high, *stratum))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binomial::clopper_pearson;

    fn group(stratum: usize, pi: f64, judged: u64, wrong: u64) -> Group {
        Group { stratum, pi, judged, wrong, missing: 0 }
    }

    #[test]
    fn with_one_probability_it_is_the_plain_interval() {
        let estimate = estimate(&[1_000], &[group(0, 0.1, 100, 7)]);
        assert_eq!((estimate.errors.round(), estimate.rate), (70.0, Some(0.07)));
        let plain = clopper_pearson(7.0, 100.0, 0.05);
        // The variance has n − 1 in it, Clopper and Pearson's interval has n.
        assert!((estimate.interval.lower - plain.lower).abs() < 2e-3, "{estimate:?} {plain:?}");
        assert!((estimate.interval.upper - plain.upper).abs() < 2e-3, "{estimate:?} {plain:?}");
        assert_eq!(estimate.undetected.round(), 63.0);
    }

    #[test]
    fn errors_in_what_is_seldom_drawn_weigh_more() {
        let estimate = estimate(&[1_000, 1_000], &[group(0, 0.5, 500, 0), group(1, 0.05, 50, 5)]);
        assert_eq!(estimate.errors.round(), 100.0);
        assert!((estimate.rate.unwrap() - 0.05).abs() < 1e-12);
        assert!(estimate.interval.contains(0.05) && estimate.interval.upper < 0.12, "{estimate:?}");
    }

    #[test]
    fn without_errors_the_bound_is_that_of_the_worst_split() {
        // One stratum: 59 clean audits say less than 5 % with 5 % on that side.
        let one = bound_without_errors(&[10_000], &[group(0, 0.1, 59, 0)], 0.05);
        assert!((one - clopper_pearson(0.0, 59.0, 0.1).upper).abs() < 1e-9, "{one}");
        // Two equal strata with equal audits are as one.
        let two = bound_without_errors(&[500, 500], &[group(0, 0.1, 30, 0), group(1, 0.1, 29, 0)], 0.05);
        assert!((two - one).abs() < 1e-3, "{two}");
        // A stratum without audits may be all wrong.
        let blind = bound_without_errors(&[900, 100], &[group(0, 0.1, 299, 0)], 0.05);
        assert!(blind > 0.1 && blind < 0.11, "{blind}");
    }

    #[test]
    fn missing_audits_widen_the_interval_to_both_sides() {
        let all = [Group { missing: 0, ..group(0, 0.1, 100, 5) }];
        let some = [Group { missing: 20, ..group(0, 0.1, 100, 5) }];
        let (all, some) = (estimate(&[1_000], &all), estimate(&[1_000], &some));
        assert_eq!(all.rate, some.rate);
        assert!(some.interval.upper > all.interval.upper + 0.1 && some.interval.lower < all.interval.lower);
    }

    #[test]
    fn without_audits_nothing_is_known() {
        let estimate = estimate(&[1_000], &[]);
        assert_eq!((estimate.rate, estimate.interval), (None, Interval::UNKNOWN));
        assert!(estimate.errors.is_sign_positive() && estimate.undetected.is_sign_positive());
    }
}
