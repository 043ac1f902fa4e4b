//! Whether two groups have the same rate, and by how much their rates differ.

use super::binomial::Interval;

/// Judged actions of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditCounts {
    /// How many.
    pub judged: u64,
    /// How many of them were wrong, or whatever else is counted.
    pub wrong: u64,
}

/// An e-process against "both groups have the same rate", whatever that is (Turner, Ly and Grünwald, Journal of
/// Statistical Planning and Inference 230, 2024). While it is true, the value ever reaches 1/α with probability α at
/// most, however often one looks.
///
/// Findings come in blocks, a day's for example. In each, the likelihood under the rates θa and θb that earlier blocks
/// suggest is divided by that under the common rate (na·θa + nb·θb) / (na + nb). How many findings a block has must not
/// depend on what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TwoGroups {
    groups: [AuditCounts; 2],
    ln_value: f64,
}

/// The prior of each rate is a beta distribution with both parameters at this value: Turner, Ly and Grünwald's choice, at
/// which the value grows nearly as fast as if the rates were known.
const PRIOR: f64 = 0.18;

impl TwoGroups {
    /// Takes a block of findings into account.
    pub fn observe(&mut self, block: [AuditCounts; 2]) {
        let suggested =
            self.groups.map(|group| (group.wrong as f64 + PRIOR) / (group.judged as f64 + 2.0 * PRIOR));
        let size = block.map(|group| group.judged as f64);
        if size[0] > 0.0 && size[1] > 0.0 {
            let common = (size[0] * suggested[0] + size[1] * suggested[1]) / (size[0] + size[1]);
            for (group, rate) in block.iter().zip(suggested) {
                let (wrong, right) = (group.wrong as f64, (group.judged - group.wrong) as f64);
                self.ln_value += wrong * (rate / common).ln() + right * ((1.0 - rate) / (1.0 - common)).ln();
            }
        }
        for (sum, group) in self.groups.iter_mut().zip(block) {
            *sum = AuditCounts { judged: sum.judged + group.judged, wrong: sum.wrong + group.wrong };
        }
    }

    /// The evidence so far, as a natural logarithm; from ln 20 on, the rates differ with 95 % confidence.
    pub fn ln_value(&self) -> f64 {
        self.ln_value
    }
}

/// A rate with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The rate.
    pub rate: f64,
    /// Its interval.
    pub interval: Interval,
}

/// The difference of two rates, with an interval made of theirs by the square-and-add method (Zou and Donner,
/// Statistics in Medicine 27, 2008; Newcombe's of 1998 if both are Wilson's): each end's distance is the root of the
/// squared distances of the ends that make it so. It has the confidence of the intervals that it is made of.
pub fn difference(one: Measured, reference: Measured) -> Measured {
    let rate = one.rate - reference.rate;
    let below = (one.rate - one.interval.lower).hypot(reference.interval.upper - reference.rate);
    let above = (one.interval.upper - one.rate).hypot(reference.rate - reference.interval.lower);
    Measured { rate, interval: Interval { lower: (rate - below).max(-1.0), upper: (rate + above).min(1.0) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::rows;

    #[test]
    fn the_e_value_agrees_with_one_made_of_scipys_probabilities() {
        for row in rows(include_str!("../fixtures/e_values.tsv")) {
            let (blocks, [expected]) = row.split_at(row.len() - 1) else { panic!("{row:?}") };
            let mut process = TwoGroups::default();
            for block in blocks.chunks_exact(4) {
                let [a, b, c, d] = [block[0], block[1], block[2], block[3]].map(|count| count as u64);
                process.observe([AuditCounts { judged: a, wrong: b }, AuditCounts { judged: c, wrong: d }]);
            }
            assert!((process.ln_value() - expected).abs() < 1e-9, "{} {expected}", process.ln_value());
        }
    }

    #[test]
    fn a_block_of_one_group_alone_is_no_evidence() {
        let mut process = TwoGroups::default();
        process.observe([AuditCounts { judged: 50, wrong: 0 }, AuditCounts::default()]);
        process.observe([AuditCounts::default(), AuditCounts { judged: 50, wrong: 50 }]);
        assert_eq!(process.ln_value(), 0.0);
        // But it is remembered.
        process.observe([AuditCounts { judged: 2, wrong: 0 }, AuditCounts { judged: 2, wrong: 2 }]);
        assert!(process.ln_value() > 2.0, "{process:?}");
    }

    #[test]
    fn the_difference_is_newcombes_where_the_intervals_are_wilsons() {
        for row in rows(include_str!("../fixtures/differences.tsv")) {
            let [rate, lower, upper, of, of_lower, of_upper, difference_, low, high] = row[..] else {
                panic!("{row:?}")
            };
            let one = Measured { rate, interval: Interval { lower, upper } };
            let reference = Measured { rate: of, interval: Interval { lower: of_lower, upper: of_upper } };
            let found = difference(one, reference);
            let got = [found.rate, found.interval.lower, found.interval.upper];
            for (got, expected) in got.iter().zip([difference_, low, high]) {
                assert!((got - expected).abs() < 1e-9, "{row:?} {found:?}");
            }
        }
    }
}
