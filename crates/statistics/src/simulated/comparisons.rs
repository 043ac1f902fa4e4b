//! How often groups are flagged that are as good as others, or worse, and how often corrected rates are true.

use super::Dice;
use crate::{
    auditor_error::{Known, correct},
    comparison::{AuditCounts, TwoGroups},
    estimate::ALPHA,
    multiple::e_bh,
};

/// Groups that are compared with a reference group.
const GROUPS: usize = 10;

/// Findings of each group a day.
const A_DAY: u64 = 10;

/// The share of runs of so many `days` in which the first of ten groups is flagged at a false discovery rate of 5 % on any
/// evening, and that in which another one is. The first errs at the rate `first`, all others and the reference at `rate`.
pub fn flagged(seed: u64, rate: f64, first: f64, runs: u32, days: u32) -> [f64; 2] {
    let mut dice = Dice::new(seed);
    let mut flagged = [0_u32; 2];
    for _ in 0..runs {
        let (mut tests, mut seen) = ([TwoGroups::default(); GROUPS], [false; 2]);
        for _ in 0..days {
            let mut day = |rate: f64| {
                let wrong = (0..A_DAY).filter(|_| dice.below(rate)).count();
                AuditCounts { judged: A_DAY, wrong: wrong as u64 }
            };
            let reference = day(rate);
            for (group, test) in tests.iter_mut().enumerate() {
                test.observe([day(if group == 0 { first } else { rate }), reference]);
            }
            let flags = e_bh(&tests.map(|test| test.ln_value()), ALPHA);
            for (group, _) in flags.iter().enumerate().filter(|(_, flag)| **flag) {
                seen[usize::from(group > 0)] = true;
            }
        }
        for (count, seen) in flagged.iter_mut().zip(seen) {
            *count += u32::from(seen);
        }
    }
    flagged.map(|count| f64::from(count) / f64::from(runs))
}

/// Auditors who recognise so much of what is wrong and of what is right.
#[derive(Clone, Copy, Debug)]
pub struct Auditors {
    /// The probability that they find wrong what is wrong.
    pub sensitivity: f64,
    /// The probability that they find right what is right.
    pub specificity: f64,
}

/// The share of runs in which the corrected interval contains the true `rate`: `audits` are judged by `auditors`, and
/// `items` of each kind that are known.
pub fn corrected(seed: u64, rate: f64, auditors: Auditors, [audits, items]: [u64; 2], runs: u32) -> f64 {
    let mut dice = Dice::new(seed);
    let Auditors { sensitivity, specificity } = auditors;
    let mut count = |trials: u64, p: f64| (0..trials).filter(|_| dice.below(p)).count() as u64;
    let covered = (0..runs).filter(|_| {
        let apparent = rate * sensitivity + (1.0 - rate) * (1.0 - specificity);
        let wrong = count(audits, apparent);
        let known_wrong = Known { items, recognised: count(items, sensitivity) };
        let known_right = Known { items, recognised: count(items, specificity) };
        correct(wrong as f64, audits as f64, known_wrong, known_right, ALPHA)
            .is_some_and(|found| found.interval.contains(rate))
    });
    covered.count() as f64 / f64::from(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_all_groups_are_equal_one_is_flagged_in_at_most_one_of_twenty_runs() {
        let [first, others] = flagged(1, 0.05, 0.05, 200, 50);
        assert!(first + others <= 0.05, "{first} {others}");
    }

    #[test]
    fn a_group_that_errs_far_more_often_is_flagged() {
        let [first, others] = flagged(2, 0.05, 0.2, 50, 50);
        assert!(first >= 0.9 && others <= 0.1, "{first} {others}");
    }

    #[test]
    fn corrected_rates_cover_the_truth() {
        for rate in [0.001, 0.02, 0.2] {
            let auditors = Auditors { sensitivity: 0.8, specificity: 0.995 };
            let share = corrected(3, rate, auditors, [500, 100], 300);
            assert!(share >= 0.92, "{rate}: {share}");
        }
    }
}
