//! Groups compared with one of them, as a report on drift or fairness prints them.

use super::{
    binomial::clopper_pearson,
    comparison::{AuditCounts, Measured, TwoGroups, difference},
    estimate::each_of,
    multiple::e_bh,
};

/// A group beside the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// What was judged of it in all blocks.
    pub all: AuditCounts,
    /// Its rate, with Clopper and Pearson's interval. The intervals of all groups that are shown hold together.
    pub rate: Measured,
    /// Its rate less that of the reference, with an interval made of theirs.
    pub difference: Measured,
    /// Its rate divided by that of the reference; `None` where that is 0.
    pub ratio: Option<f64>,
    /// Whether it differs from the reference; of all flags at most the chosen share is wrong on average.
    pub flagged: bool,
    /// With so many findings a higher rate would hardly be seen unless it were above the reference's by this difference:
    /// below it, even a test that knew both rates would have too little evidence on average. `None` where no difference
    /// is large enough.
    pub visible: Option<f64>,
}

/// Compares groups with the group `reference`, given what was judged in each block (a day, for example; the same number
/// of blocks for each). A group of which fewer than `least` were judged is suppressed: `None` stands in its place, and
/// if it is the reference, for all. `level` is the false discovery rate of the flags, and the probability outside the
/// intervals.
pub fn compare(
    groups: &[Vec<AuditCounts>],
    reference: usize,
    least: u64,
    level: f64,
) -> Vec<Option<Compared>> {
    let sums: Vec<AuditCounts> = groups.iter().map(|blocks| sum(blocks)).collect();
    let shown = |group: &usize| sums.get(*group).is_some_and(|all| all.judged >= least.max(1));
    let (Some(of), Some(blocks)) = (sums.get(reference), groups.get(reference).filter(|_| shown(&reference)))
    else {
        return vec![None; groups.len()];
    };
    let alpha = each_of((0..groups.len()).filter(shown).count(), level);
    let others: Vec<usize> = (0..groups.len()).filter(|group| *group != reference).filter(shown).collect();
    let values: Vec<f64> = others.iter().map(|group| evidence(&groups[*group], blocks)).collect();
    let flags = e_bh(&values, level);
    let flagged = |group: usize| others.iter().zip(&flags).any(|(other, flag)| *other == group && *flag);
    let compared = |group: usize| {
        let all = sums[group];
        let (rate, base) = (measured(&all, alpha), measured(of, alpha));
        Compared {
            all,
            rate,
            difference: difference(rate, base),
            ratio: (base.rate > 0.0).then(|| rate.rate / base.rate),
            flagged: flagged(group),
            visible: if group == reference {
                None
            } else {
                visible(all.judged, of, (others.len() as f64 / level).ln())
            },
        }
    };
    (0..groups.len()).map(|group| shown(&group).then(|| compared(group))).collect()
}

fn sum(blocks: &[AuditCounts]) -> AuditCounts {
    let add = |sum: AuditCounts, block: &AuditCounts| AuditCounts {
        judged: sum.judged + block.judged,
        wrong: sum.wrong + block.wrong,
    };
    blocks.iter().fold(AuditCounts::default(), add)
}

fn measured(all: &AuditCounts, alpha: f64) -> Measured {
    let (judged, wrong) = (all.judged as f64, all.wrong as f64);
    Measured { rate: wrong / judged, interval: clopper_pearson(wrong, judged, alpha) }
}

fn evidence(one: &[AuditCounts], reference: &[AuditCounts]) -> f64 {
    let mut test = TwoGroups::default();
    for (one, reference) in one.iter().zip(reference) {
        test.observe([*one, *reference]);
    }
    test.ln_value()
}

/// The smallest difference at which the expected evidence of `judged` findings beside those of the reference reaches
/// `needed`, if both rates are known.
fn visible(judged: u64, reference: &AuditCounts, needed: f64) -> Option<f64> {
    let (one, other) = (judged as f64, reference.judged as f64);
    let base = reference.wrong as f64 / other;
    let expected = |rate: f64| {
        let common = (one * rate + other * base) / (one + other);
        one * divergence(rate, common) + other * divergence(base, common)
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
mod tests {
    use super::*;
    use crate::simulated::Dice;

    fn days(dice: &mut Dice, rate: f64, days: u32) -> Vec<AuditCounts> {
        let day = |_| AuditCounts { judged: 10, wrong: (0..10).filter(|_| dice.below(rate)).count() as u64 };
        (0..days).map(day).collect()
    }

    #[test]
    fn a_group_is_shown_beside_the_reference() {
        let block = |judged, wrong| vec![AuditCounts { judged, wrong }; 20];
        let found = compare(&[block(10, 1), block(10, 4), block(10, 1)], 0, 100, 0.05);
        let [Some(reference), Some(worse), Some(same)] = found[..] else { panic!("{found:?}") };
        assert_eq!([reference.flagged, worse.flagged, same.flagged], [false, true, false]);
        assert!((worse.difference.rate - 0.3).abs() < 1e-12 && worse.difference.interval.lower > 0.1);
        assert!((worse.ratio.unwrap() - 4.0).abs() < 1e-12 && same.difference.interval.contains(0.0));
        assert!(worse.visible.is_some_and(|least| least < 0.3), "{worse:?}");
        // The intervals of three groups hold together.
        let alone = clopper_pearson(20.0, 200.0, 0.05);
        assert!(same.rate.interval.upper > alone.upper && same.rate.interval.lower < alone.lower);
    }

    #[test]
    fn groups_of_which_little_was_judged_are_suppressed() {
        let block = |judged, wrong| vec![AuditCounts { judged, wrong }; 2];
        let found = compare(&[block(10, 1), block(1, 1)], 0, 10, 0.05);
        assert!(found[0].is_some() && found[1].is_none(), "{found:?}");
        assert_eq!(compare(&[block(10, 1), block(1, 1)], 1, 10, 0.05), [None, None]);
        assert_eq!(compare(&[block(10, 1)], 3, 10, 0.05), [None]);
    }

    #[test]
    fn what_is_said_to_be_invisible_is_seldom_flagged() {
        let mut dice = Dice::new(8);
        let reference = AuditCounts { judged: 1_000, wrong: 50 };
        let least = visible(1_000, &reference, 20_f64.ln()).unwrap();
        assert!((0.02..0.06).contains(&least), "{least}");
        let flagged = (0..200).filter(|_| {
            let groups = [days(&mut dice, 0.05, 100), days(&mut dice, 0.05 + least, 100)];
            compare(&groups, 0, 100, 0.05)[1].is_some_and(|found| found.flagged)
        });
        let flagged = flagged.count();
        assert!((20..120).contains(&flagged), "{flagged} of 200");
    }

    #[test]
    fn too_few_findings_show_no_difference_at_all() {
        assert_eq!(visible(2, &AuditCounts { judged: 2, wrong: 0 }, 20_f64.ln()), None);
    }
}
