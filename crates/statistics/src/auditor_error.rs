//! Error rates corrected for auditors who are wrong now and then, as known items show.

use statrs::distribution::{ContinuousCDF as _, Normal};

use super::binomial::Interval;

/// Known items that auditors judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// How many.
    pub items: u64,
    /// How many of them were judged as they are known to be.
    pub recognised: u64,
}

impl Known {
    fn share(&self) -> f64 {
        self.recognised as f64 / self.items as f64
    }

    /// The share with one more of each outcome, and its variance.
    fn adjusted(&self) -> (f64, f64) {
        let items = self.items as f64 + 2.0;
        let share = (self.recognised as f64 + 1.0) / items;
        (share, share * (1.0 - share) / items)
    }
}

/// A corrected rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrected {
    /// Rogan and Gladen's estimate (American Journal of Epidemiology 107, 1978): (apparent + specificity − 1) /
    /// (sensitivity + specificity − 1), within 0 and 1.
    pub rate: f64,
    /// Its interval.
    pub interval: Interval,
}

/// Corrects the share `wrong` / `judged` that auditors found wrong, given how they judged items that are known to be
/// wrong and to be right, with the interval of Lang and Reiczigel (Preventive Veterinary Medicine 113, 2014) outside of
/// which the true rate lies with a probability of about `alpha`. Numbers need not be whole, as effective numbers of
/// audits are not.
///
/// `None` without audits or known items, and where auditors do no better than chance.
pub fn correct(
    wrong: f64,
    judged: f64,
    known_wrong: Known,
    known_right: Known,
    alpha: f64,
) -> Option<Corrected> {
    if judged <= 0.0 || known_wrong.items == 0 || known_right.items == 0 {
        return None;
    }
    let (sensitivity, specificity) = (known_wrong.share(), known_right.share());
    let ((adjusted, of_wrong), (passing, of_right)) = (known_wrong.adjusted(), known_right.adjusted());
    let gain = adjusted + passing - 1.0;
    if sensitivity + specificity <= 1.0 || gain <= f64::EPSILON {
        return None;
    }
    let rate = (wrong / judged + specificity - 1.0) / (sensitivity + specificity - 1.0);

    // Agresti and Coull's adjustment of the apparent rate, and one more of each outcome for the known items.
    let z = Normal::standard().inverse_cdf(1.0 - alpha / 2.0);
    let audits = judged + z * z;
    let apparent = (wrong + z * z / 2.0) / audits;
    let centre = (apparent + passing - 1.0) / gain;
    let variance =
        apparent * (1.0 - apparent) / audits + of_wrong * centre.powi(2) + of_right * (1.0 - centre).powi(2);
    let shift = 2.0 * z * z * (centre * of_wrong - (1.0 - centre) * of_right);
    let half = z * variance.sqrt() / gain;
    let within = |value: f64| value.clamp(0.0, 1.0);
    let interval = Interval { lower: within(centre + shift - half), upper: within(centre + shift + half) };
    Some(Corrected { rate: within(rate), interval })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::rows;

    #[test]
    fn it_agrees_with_the_formulas_written_in_python() {
        for row in rows(include_str!("../fixtures/corrected.tsv")) {
            let [wrong, judged, items_wrong, hits, items_right, passes, rate, lower, upper] = row[..] else {
                panic!("{row:?}")
            };
            let known =
                |items: f64, recognised: f64| Known { items: items as u64, recognised: recognised as u64 };
            let found =
                correct(wrong, judged, known(items_wrong, hits), known(items_right, passes), 0.05).unwrap();
            let got = [found.rate, found.interval.lower, found.interval.upper];
            for (got, expected) in got.iter().zip([rate, lower, upper]) {
                assert!((got - expected).abs() < 1e-9, "{row:?} {found:?}");
            }
        }
    }

    #[test]
    fn auditors_who_do_no_better_than_chance_cannot_be_corrected() {
        let half = Known { items: 100, recognised: 50 };
        assert_eq!(correct(10.0, 100.0, half, half, 0.05), None);
        assert_eq!(correct(10.0, 100.0, half, Known { items: 0, recognised: 0 }, 0.05), None);
        // With so few known items one more of each outcome leaves no better than chance.
        let one = Known { items: 1, recognised: 1 };
        assert_eq!(correct(10.0, 100.0, one, Known { items: 100, recognised: 1 }, 0.05), None);
    }
}
