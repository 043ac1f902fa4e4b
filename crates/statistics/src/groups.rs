//! Groups compared with one of them, or with themselves at an earlier time, as a report on drift or fairness prints them.
//!
//! What was drawn with one inclusion probability is compared with what was drawn with the same. Groups whose actions are
//! drawn with other probabilities differ in what is judged of them even if they err as often: pooled, a census of failures
//! in one group would pass for its rate.

use super::{
    comparison::{AuditCounts, Measured, TwoGroups, difference},
    estimate::{Cell, estimate, korn_graubard},
};

/// Actions of a group with one inclusion probability, and what was judged of them.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupCell {
    /// The inclusion probability π of each, 0 to 1; 1 where all are counted and nothing is drawn.
    pub pi: f64,
    /// How many there are, drawn or not.
    pub executed: u64,
    /// Drawn and not judged yet.
    pub missing: u64,
    /// What was judged in each block of time, such as a day: as many blocks for each group, in the same order.
    pub blocks: Vec<AuditCounts>,
}

impl GroupCell {
    fn judged(&self) -> AuditCounts {
        let add = |sum: AuditCounts, block: &AuditCounts| AuditCounts {
            judged: sum.judged + block.judged,
            wrong: sum.wrong + block.wrong,
        };
        self.blocks.iter().fold(AuditCounts::default(), add)
    }

    fn cell(&self) -> Cell {
        let AuditCounts { judged, wrong } = self.judged();
        Cell { pi: self.pi, executed: self.executed, judged, wrong, missing: self.missing }
    }
}

/// A group beside its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Its rate less that of the reference, with an interval made of theirs.
    pub difference: Measured,
    /// Its rate divided by that of the reference; `None` where that is 0.
    pub ratio: Option<f64>,
    /// The evidence that the two differ, as the natural logarithm of an e-value: the sum over inclusion probabilities, for
    /// what is drawn with one is independent of what is drawn with another.
    pub ln_evidence: f64,
    /// With so many findings a higher rate would hardly be seen unless it were above the reference's by this difference:
    /// below it, even a test that knew both rates would have too little evidence on average. `None` where no difference
    /// is large enough.
    pub visible: Option<f64>,
}

/// The rate of a group, with an interval that misses it with probability `alpha`. `None` where nothing is judged.
///
/// It is the rate at which the group errs, of which even a census of what it has done is a sample. The interval is
/// therefore that of what was executed, widened to Korn and Graubard's, which does not end where all is judged.
pub fn rate(cells: &[GroupCell], alpha: f64) -> Option<Measured> {
    let cells: Vec<Cell> = cells.iter().map(GroupCell::cell).collect();
    let found = estimate(&cells, alpha);
    let rate = found.rate?;
    let (mut interval, process) = (found.interval, korn_graubard(&cells, alpha));
    interval.lower = interval.lower.min(process.lower);
    interval.upper = interval.upper.max(process.upper);
    Some(Measured { rate, interval })
}

/// How many of a group are judged, and how many of these are wrong.
pub fn judged(cells: &[GroupCell]) -> AuditCounts {
    cells.iter().map(GroupCell::judged).fold(AuditCounts::default(), |sum, cell| AuditCounts {
        judged: sum.judged + cell.judged,
        wrong: sum.wrong + cell.wrong,
    })
}

/// Compares a group with a reference. Each rate's interval misses it with probability `alpha`; among `tests` that are made
/// together, a flag needs the most evidence if it is the only one at the false discovery rate `level`.
///
/// `None` where nothing is judged of one of them.
pub fn compare(
    group: &[GroupCell],
    reference: &[GroupCell],
    alpha: f64,
    tests: usize,
    level: f64,
) -> Option<Comparison> {
    let (of, base) = (rate(group, alpha)?, rate(reference, alpha)?);
    let pairs: Vec<[&GroupCell; 2]> = group
        .iter()
        .filter_map(|one| reference.iter().find(|other| other.pi == one.pi).map(|other| [one, other]))
        .collect();
    Some(Comparison {
        difference: difference(of, base),
        ratio: (base.rate > 0.0).then(|| of.rate / base.rate),
        ln_evidence: pairs.iter().map(|[one, other]| evidence(&one.blocks, &other.blocks)).sum(),
        visible: visible(&pairs, base.rate, (tests.max(1) as f64 / level).ln()),
    })
}

fn evidence(one: &[AuditCounts], reference: &[AuditCounts]) -> f64 {
    let mut test = TwoGroups::default();
    for (one, reference) in one.iter().zip(reference) {
        test.observe([*one, *reference]);
    }
    test.ln_value()
}

/// The smallest difference to the rate `base` at which the expected evidence reaches `needed`, if both rates are known.
fn visible(pairs: &[[&GroupCell; 2]], base: f64, needed: f64) -> Option<f64> {
    let sizes: Vec<[f64; 2]> =
        pairs.iter().map(|pair| pair.map(|cell| cell.judged().judged as f64)).collect();
    let both = || sizes.iter().filter(|[one, other]| *one > 0.0 && *other > 0.0);
    let expected = |rate: f64| {
        let of = |[one, other]: &[f64; 2]| {
            let common = (one * rate + other * base) / (one + other);
            one * divergence(rate, common) + other * divergence(base, common)
        };
        both().map(of).sum::<f64>()
    };
    if expected(1.0) < needed {
        return None;
    }
    let (mut low, mut high) = (base, 1.0);
    for _ in 0..50 {
        let middle = low + (high - low) / 2.0;
        if expected(middle) < needed { low = middle } else { high = middle }
    }
    Some(high - base)
}

/// The expected logarithm of the likelihood ratio of a finding at the rate `p` against `q` (Kullback and Leibler).
fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

#[cfg(test)]
mod tests;
