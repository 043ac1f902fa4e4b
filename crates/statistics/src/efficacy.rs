//! Correction efficacy: which share of the executed errors was corrected.

use super::{binomial::Interval, estimate::Estimate};

/// The reference figure for audits after execution: 70 to 90 % of the errors corrected. For comparison only: it was not
/// measured here.
pub const REFERENCE: Interval = Interval { lower: 0.7, upper: 0.9 };

/// The share of errors that were corrected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Efficacy {
    /// Corrected errors divided by the estimated number of errors; at most 1. `None` where that number is unknown or 0.
    pub share: Option<f64>,
    /// The interval, from that of the error rate: k / (N · upper) to k / (N · lower), at most 1. The number corrected
    /// is counted, not estimated, so that all the uncertainty is in the number of errors.
    pub interval: Interval,
}

/// How many of the errors among `executed` actions were corrected, given that `corrected` were. `None` without audits,
/// which leave the number of errors unknown.
pub fn efficacy(corrected: u64, executed: u64, errors: &Estimate) -> Option<Efficacy> {
    errors.rate?;
    let (corrected, all) = (corrected as f64, executed as f64);
    let share = |of: f64| (of > 0.0).then(|| (corrected / of).min(1.0));
    // If there may be no error at all, all of them may have been corrected.
    let upper = share(all * errors.interval.lower).unwrap_or(1.0);
    let lower = share(all * errors.interval.upper).unwrap_or(0.0);
    let interval = Interval { lower: lower.min(upper), upper };
    Some(Efficacy { share: errors.errors.and_then(share), interval })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::{ALPHA, Cell, estimate};

    fn audited(pi: f64, judged: u64, wrong: u64) -> Estimate {
        let executed = (judged as f64 / pi).round() as u64;
        estimate(&[Cell { pi, executed, judged, wrong, missing: 0 }], ALPHA)
    }

    #[test]
    fn the_interval_is_that_of_the_number_of_errors() {
        // 1,000 executed, 100 audited, 10 wrong: about 100 errors, of which 10 were corrected.
        let errors = audited(0.1, 100, 10);
        let found = efficacy(10, 1_000, &errors).unwrap();
        assert!((found.share.unwrap() - 0.1).abs() < 1e-12, "{found:?}");
        assert!((found.interval.lower - 10.0 / (1_000.0 * errors.interval.upper)).abs() < 1e-12);
        assert!((found.interval.upper - 10.0 / (1_000.0 * errors.interval.lower)).abs() < 1e-12);
        assert!(found.interval.contains(0.1));
    }

    #[test]
    fn audits_that_wait_do_not_make_it_look_better() {
        // 1,000 executed, 100 drawn, 50 of them judged and 15 wrong: about 300 errors, of which 15 were corrected.
        let cell = Cell { pi: 0.1, executed: 1_000, judged: 50, wrong: 15, missing: 50 };
        let found = efficacy(15, 1_000, &estimate(&[cell], ALPHA)).unwrap();
        assert!((found.share.unwrap() - 0.05).abs() < 1e-12, "{found:?}");
        // If a cell has no judgement at all, the share is unknown and its interval is not.
        let blind = Cell { pi: 1.0, executed: 20, judged: 0, wrong: 0, missing: 20 };
        let found = efficacy(15, 1_020, &estimate(&[cell, blind], ALPHA)).unwrap();
        assert!(found.share.is_none() && found.interval.lower > 0.0, "{found:?}");
    }

    #[test]
    fn the_share_is_at_most_one() {
        let found = efficacy(40, 100, &audited(1.0, 100, 30)).unwrap();
        assert_eq!((found.share, found.interval.upper), (Some(1.0), 1.0));
    }

    #[test]
    fn without_errors_found_there_is_no_share() {
        let found = efficacy(0, 100, &audited(0.5, 50, 0)).unwrap();
        assert_eq!((found.share, found.interval), (None, Interval::UNKNOWN));
    }

    #[test]
    fn without_audits_nothing_is_known() {
        assert_eq!(efficacy(3, 100, &estimate(&[], ALPHA)), None);
    }
}
