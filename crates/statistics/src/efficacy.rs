//! Correction efficacy: which share of the executed errors was corrected.

use super::{binomial::Interval, estimate::Estimate};

/// The reference figure for audits after execution: 70 to 90 % of the errors corrected. For comparison only: it was not
/// measured here.
pub const REFERENCE: Interval = Interval { lower: 0.7, upper: 0.9 };

/// The share of errors that were corrected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Efficacy {
    /// Corrected errors divided by Horvitz and Thompson's estimate of the errors; at most 1. `None` where that estimate
    /// is 0.
    pub share: Option<f64>,
    /// 95 % interval, from that of the error rate: k / (N · upper) to k / (N · lower), at most 1. The number corrected
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
    Some(Efficacy { share: share(errors.errors), interval: Interval { lower: lower.min(upper), upper } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::{Group, estimate};

    fn audited(pi: f64, judged: u64, wrong: u64) -> Estimate {
        let executed = (judged as f64 / pi).round() as u64;
        estimate(&[executed], &[Group { stratum: 0, pi, judged, wrong, missing: 0 }])
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
        assert_eq!(efficacy(3, 100, &estimate(&[100], &[])), None);
    }
}
