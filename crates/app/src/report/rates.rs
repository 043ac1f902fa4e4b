//! Error rates of executed actions, estimated from the audits that were drawn.

use countersign_statistics::{
    binomial::Interval,
    estimate::{Estimate, Group, estimate},
};
use countersign_store::rates::DrawCounts;
use serde::{Deserialize, Serialize};

/// The error rate of a stratum, or of all strata together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// The stratum; absent for all together.
    pub stratum: Option<String>,
    /// Actions whose tool was called.
    pub executed: u64,
    /// Audits that were drawn and judged.
    pub judged: u64,
    /// Judged wrong.
    pub wrong: u64,
    /// Audits drawn and not judged yet, which widen the interval.
    pub missing: u64,
    /// Horvitz and Thompson's estimate of the number of errors.
    pub errors: f64,
    /// The estimated number of errors among unaudited actions.
    pub undetected: f64,
    /// Hájek's estimate of the error rate; absent where nothing was judged.
    pub rate: Option<f64>,
    /// The lower end of its 95 % interval.
    pub lower: f64,
    /// The upper end of its 95 % interval.
    pub upper: f64,
}

impl Rate {
    /// The rate of strata that have `executed` actions each, of which `groups` were drawn.
    fn of(stratum: Option<String>, executed: &[u64], groups: &[Group]) -> Self {
        let Estimate { errors, rate, interval, undetected } = estimate(executed, groups);
        let sum = |pick: fn(&Group) -> u64| groups.iter().map(pick).sum();
        Self {
            stratum,
            executed: executed.iter().sum(),
            judged: sum(|group| group.judged),
            wrong: sum(|group| group.wrong),
            missing: sum(|group| group.missing),
            errors,
            undetected,
            rate,
            lower: interval.lower,
            upper: interval.upper,
        }
    }

    /// The rate of all that was counted together; `None` where nothing was executed.
    pub(super) fn overall<'a>(counts: impl IntoIterator<Item = &'a DrawCounts>) -> Option<Self> {
        let Strata { executed, groups, .. } = Strata::of(counts);
        (!groups.is_empty()).then(|| Self::of(None, &executed, &groups))
    }

    /// The estimate alone.
    pub(super) fn estimate(&self) -> Estimate {
        let interval = Interval { lower: self.lower, upper: self.upper };
        Estimate { errors: self.errors, rate: self.rate, interval, undetected: self.undetected }
    }
}

/// Counts by stratum, in the form that the estimators take.
#[derive(Default)]
struct Strata<'a> {
    names: Vec<&'a str>,
    executed: Vec<u64>,
    groups: Vec<Group>,
}

impl<'a> Strata<'a> {
    /// Counts of one stratum must follow each other.
    fn of(counts: impl IntoIterator<Item = &'a DrawCounts>) -> Self {
        let mut strata = Self::default();
        for count in counts {
            if strata.names.last() != Some(&count.stratum.as_str()) {
                strata.names.push(&count.stratum);
                strata.executed.push(0);
            }
            if let Some(executed) = strata.executed.last_mut() {
                *executed += count.executed;
            }
            let DrawCounts { pi, judged, wrong, missing, .. } = *count;
            strata.groups.push(Group { stratum: strata.names.len() - 1, pi, judged, wrong, missing });
        }
        strata
    }
}

/// The rates of all together, then of each stratum. Empty where nothing was executed.
pub(super) fn rates(counts: &[DrawCounts]) -> Vec<Rate> {
    let Strata { names, executed, groups } = Strata::of(counts);
    if names.is_empty() {
        return vec![];
    }
    let mut rates = vec![Rate::of(None, &executed, &groups)];
    rates.extend(names.iter().zip(&executed).enumerate().map(|(stratum, (name, executed))| {
        let alone = groups.iter().filter(|group| group.stratum == stratum);
        let alone: Vec<Group> = alone.map(|group| Group { stratum: 0, ..*group }).collect();
        Rate::of(Some((*name).to_owned()), &[*executed], &alone)
    }));
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(stratum: &str, pi: f64, [executed, judged, wrong]: [u64; 3]) -> DrawCounts {
        DrawCounts { stratum: stratum.into(), pi, executed, judged, wrong, missing: 0 }
    }

    #[test]
    fn the_strata_add_up_to_all_together() {
        let counts =
            [counts("a", 0.5, [10, 5, 1]), counts("a", 1.0, [2, 2, 1]), counts("b", 0.25, [8, 2, 0])];
        let rates = rates(&counts);
        let names: Vec<Option<&str>> = rates.iter().map(|rate| rate.stratum.as_deref()).collect();
        assert_eq!(names, [None, Some("a"), Some("b")]);
        let executed: Vec<u64> = rates.iter().map(|rate| rate.executed).collect();
        assert_eq!(executed, [20, 12, 8]);
        // 1/0.5 and 1/1.
        assert_eq!((rates[0].errors, rates[1].errors, rates[2].errors), (3.0, 3.0, 0.0));
        assert_eq!(rates[1].rate, Some(3.0 / 12.0));
    }

    #[test]
    fn where_nothing_was_executed_there_is_no_rate() {
        assert!(rates(&[]).is_empty() && Rate::overall(&[]).is_none());
    }
}
