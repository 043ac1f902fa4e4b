//! From counts to comparisons.

use std::collections::BTreeMap;

use countersign_statistics::{
    comparison::AuditCounts,
    estimate::each_of,
    groups::{self, Comparison, GroupCell, judged},
    multiple::e_bh,
};
use countersign_store::comparison::{GroupCounts, Measure};

use super::figures::{Difference, Group, Measured, Share};

/// A group of one period.
type Key<'a> = (&'a [String], bool);

/// What was counted of each group.
#[derive(Default)]
pub(super) struct Counted<'a> {
    pub(super) actions: u64,
    pub(super) not_known: u64,
    pub(super) not_listed: u64,
    sizes: BTreeMap<Key<'a>, u64>,
    cells: BTreeMap<(Key<'a>, Measure), Vec<GroupCell>>,
}

impl<'a> Counted<'a> {
    /// Sums up rows, which have one inclusion probability after the other.
    pub(super) fn of(rows: &'a [GroupCounts], blocks: usize) -> Self {
        let mut counted = Self::default();
        for row in rows {
            let key = row.group.as_deref().map(|group| (group, row.later));
            if row.measure == Measure::Actions {
                counted.actions += row.executed;
                match key {
                    Some(key) => *counted.sizes.entry(key).or_default() += row.executed,
                    None if row.known => counted.not_listed += row.executed,
                    None => counted.not_known += row.executed,
                }
            } else if let Some(key) = key {
                let cells = counted.cells.entry((key, row.measure)).or_default();
                if cells.last().is_none_or(|cell| cell.pi != row.pi) {
                    let blocks = vec![AuditCounts::default(); blocks];
                    cells.push(GroupCell { pi: row.pi, executed: 0, missing: 0, blocks });
                }
                let Some(cell) = cells.last_mut() else { continue };
                cell.executed += row.executed;
                cell.missing += row.missing;
                if let Some(block) = cell.blocks.get_mut((row.block as usize).saturating_sub(1)) {
                    *block = AuditCounts { judged: row.judged, wrong: row.positive };
                }
            }
        }
        counted
    }

    /// What was counted for a measure; `None` where it is too little to be shown.
    fn cells(&self, key: Key<'a>, measure: Measure, least: u64) -> Option<&[GroupCell]> {
        let cells = self.cells.get(&(key, measure))?;
        (judged(cells).judged >= least).then_some(cells)
    }
}

/// A group and what it is compared with.
struct Pair<'a> {
    group: Key<'a>,
    reference: Option<Key<'a>>,
}

/// The groups, the reference first, and the reference.
pub(super) fn compared<'a>(
    counted: &Counted<'a>,
    drift: bool,
    reference: Option<String>,
    least: u64,
    level: f64,
) -> (Vec<Group>, Option<String>) {
    let (pairs, reference) = pairs(counted, drift, reference);
    let measured = Measure::COMPARED.map(|measure| measure_all(counted, &pairs, measure, least, level));
    let tests = |measured: &[Vec<Measured>; 4]| {
        measured.iter().flatten().filter_map(|one| Some(one.compared?.ln_evidence)).collect::<Vec<f64>>()
    };
    // All flags of the report together have the false discovery rate.
    let flags = e_bh(&tests(&measured), level);
    let mut flags = flags.into_iter();
    let mut columns = measured.map(|all| {
        let flagged = |mut one: Measured| {
            if let Some(compared) = &mut one.compared {
                compared.flagged = flags.next().unwrap_or_default();
            }
            one
        };
        all.into_iter().map(flagged).collect::<Vec<_>>().into_iter()
    });
    let groups = pairs.iter().map(|pair| {
        let [wrong, rejected, slow, audited] =
            columns.each_mut().map(|column| column.next().unwrap_or_default());
        let size = |later: bool| counted.sizes.get(&(pair.group.0, later)).copied().unwrap_or_default();
        Group {
            group: pair.group.0.to_vec(),
            actions: size(false) + size(true),
            wrong,
            rejected,
            slow,
            audited,
        }
    });
    (groups.collect(), reference)
}

fn pairs<'a>(
    counted: &Counted<'a>,
    drift: bool,
    reference: Option<String>,
) -> (Vec<Pair<'a>>, Option<String>) {
    if drift {
        let mut names: Vec<&[String]> = counted.sizes.keys().map(|(name, _)| *name).collect();
        names.dedup();
        let pair = |name| Pair { group: (name, true), reference: Some((name, false)) };
        return (names.into_iter().map(pair).collect(), None);
    }
    let named = |key: &&Key<'_>| reference.is_none() || key.0.first() == reference.as_ref();
    let largest = counted.sizes.iter().filter(|(key, _)| named(key)).max_by_key(|(_, size)| **size);
    let Some(base) = largest.map(|(key, _)| *key) else {
        // Nothing to compare with: the rates alone.
        let alone = counted.sizes.keys().map(|key| Pair { group: *key, reference: None });
        return (alone.collect(), None);
    };
    let others = counted.sizes.keys().filter(|key| **key != base);
    let pairs = others.map(|key| Pair { group: *key, reference: Some(base) });
    let first = Pair { group: base, reference: None };
    (std::iter::once(first).chain(pairs).collect(), base.0.first().cloned())
}

/// One measure of all groups. The intervals of all rates that are shown of it hold together.
fn measure_all<'a>(
    counted: &Counted<'a>,
    pairs: &[Pair<'a>],
    measure: Measure,
    least: u64,
    level: f64,
) -> Vec<Measured> {
    let cells = |key: Key<'a>| counted.cells(key, measure, least);
    let of: Vec<[Option<&[GroupCell]>; 2]> =
        pairs.iter().map(|pair| [cells(pair.group), pair.reference.and_then(&cells)]).collect();
    // In a report on fairness the reference is one rate for all.
    let rates = if pairs.iter().any(|pair| pair.group.1) {
        of.iter().flatten().flatten().count()
    } else {
        of.iter().filter(|[group, _]| group.is_some()).count()
    };
    let alpha = each_of(rates, level);
    let tests =
        Measure::COMPARED.len() * of.iter().filter(|[group, base]| group.is_some() && base.is_some()).count();
    let measured = |[group, base]: &[Option<&[GroupCell]>; 2]| Measured {
        rate: group.and_then(|cells| share(cells, alpha)),
        reference: base.and_then(|cells| share(cells, alpha)),
        compared: group
            .zip(*base)
            .and_then(|(group, base)| groups::compare(group, base, alpha, tests, level))
            .map(difference),
    };
    of.iter().map(measured).collect()
}

fn share(cells: &[GroupCell], alpha: f64) -> Option<Share> {
    let (found, AuditCounts { judged: cases, wrong: positive }) =
        (groups::rate(cells, alpha)?, judged(cells));
    let missing = cells.iter().map(|cell| cell.missing).sum();
    let (lower, upper) = (found.interval.lower, found.interval.upper);
    Some(Share { cases, positive, missing, rate: found.rate, lower, upper })
}

fn difference(found: Comparison) -> Difference {
    let Comparison { difference, ratio, ln_evidence, visible } = found;
    let (lower, upper) = (difference.interval.lower, difference.interval.upper);
    Difference { difference: difference.rate, lower, upper, ratio, ln_evidence, flagged: false, visible }
}

#[cfg(test)]
mod tests;
