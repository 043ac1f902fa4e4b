//! Error rates of executed actions, estimated from the audits that were drawn.

use countersign_statistics::{
    anytime::{self, AtMost},
    binomial::Interval,
    estimate::{ALPHA, Cell, Estimate, each_of, estimate},
};
use countersign_store::rates::DrawCounts;
use serde::{Deserialize, Serialize};

/// The error rate of a stratum, of a rule, or of all together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// The rule; absent for all together.
    pub rule: Option<String>,
    /// The stratum; absent for a whole rule and for all together.
    pub stratum: Option<String>,
    /// Actions whose tool was called.
    pub executed: u64,
    /// Audits that were drawn and judged.
    pub judged: u64,
    /// Judged wrong.
    pub wrong: u64,
    /// Audits drawn and not judged yet, which widen the interval.
    pub missing: u64,
    /// The estimated number of errors; absent without audits, and where what was drawn with one inclusion probability is
    /// not judged at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// The estimated number of errors that nobody has found; absent where `errors` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undetected: Option<f64>,
    /// The estimated error rate, 0 to 1; absent where nothing was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The confidence of this interval alone, 0 to 1. Those of all rules hold together with 95 % confidence, and so do
    /// those of all strata.
    pub confidence: f64,
    /// The lower end of the interval of the rate.
    pub lower: f64,
    /// The upper end of the interval of the rate.
    pub upper: f64,
    /// The most errors, at every moment at once with 95 % confidence.
    pub at_most: Bound,
    /// What all figures of the line follow from, the smallest inclusion probability first.
    #[serde(default)]
    pub cells: Vec<RateCell>,
}

/// Executed actions that were drawn with one inclusion probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateCell {
    /// The inclusion probability π of each, 0 to 1; 0 where no draw was made yet.
    pub pi: f64,
    /// How many were executed, drawn or not.
    pub executed: u64,
    /// Drawn for an audit.
    pub drawn: u64,
    /// Of these, judged.
    pub judged: u64,
    /// Of these, judged wrong.
    pub wrong: u64,
}

impl RateCell {
    /// Counts as cells, one per inclusion probability.
    fn merged<'a>(counts: impl IntoIterator<Item = &'a DrawCounts>) -> Vec<Self> {
        let mut cells: Vec<Self> = Vec::new();
        for DrawCounts { pi, executed, judged, wrong, missing, .. } in counts {
            let (Ok(at) | Err(at)) = cells.binary_search_by(|cell| cell.pi.total_cmp(pi));
            if cells.get(at).is_none_or(|cell| cell.pi != *pi) {
                cells.insert(at, Self { pi: *pi, executed: 0, drawn: 0, judged: 0, wrong: 0 });
            }
            if let Some(cell) = cells.get_mut(at) {
                cell.executed += executed;
                cell.drawn += judged + missing;
                cell.judged += judged;
                cell.wrong += wrong;
            }
        }
        cells
    }

    /// The cell as the estimators take it.
    pub(super) fn counted(&self) -> Cell {
        let Self { pi, executed, drawn, judged, wrong } = *self;
        Cell { pi, executed, judged, wrong, missing: drawn.saturating_sub(judged) }
    }
}

/// The most errors that are possible, however often it is looked at and whatever agents do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Errors among what was executed.
    pub errors: u64,
    /// Those that nobody has found, audits that are not judged yet among them.
    pub undetected: u64,
}

impl Rate {
    /// The rate of what was counted together, one of `lines` whose intervals hold together; `None` where nothing was
    /// executed.
    pub(super) fn of<'a>(counts: impl IntoIterator<Item = &'a DrawCounts>, lines: usize) -> Option<Self> {
        let counted = RateCell::merged(counts);
        let cells: Vec<Cell> = counted.iter().map(RateCell::counted).collect();
        let alpha = each_of(lines, ALPHA);
        let Estimate { errors, rate, interval, undetected } = estimate(&cells, alpha);
        let AtMost { errors: most, undetected: most_undetected } = anytime::at_most(&cells, ALPHA);
        let sum = |pick: fn(&Cell) -> u64| cells.iter().map(pick).sum();
        (!cells.is_empty()).then(|| Self {
            rule: None,
            stratum: None,
            executed: sum(|cell| cell.executed),
            judged: sum(|cell| cell.judged),
            wrong: sum(|cell| cell.wrong),
            missing: sum(|cell| cell.missing),
            errors,
            undetected,
            rate,
            confidence: 1.0 - alpha,
            lower: interval.lower,
            upper: interval.upper,
            at_most: Bound { errors: most, undetected: most_undetected },
            cells: counted,
        })
    }

    /// The estimate alone.
    pub(super) fn estimate(&self) -> Estimate {
        let interval = Interval { lower: self.lower, upper: self.upper };
        Estimate { errors: self.errors, rate: self.rate, interval, undetected: self.undetected }
    }
}

/// The rates of all together, then of each rule, followed by those of its strata. Counts of one rule, and within it of
/// one stratum, must follow each other. Empty where nothing was executed.
pub(super) fn rates(counts: &[DrawCounts]) -> Vec<Rate> {
    let by_rule = || counts.chunk_by(|one, other| one.rule == other.rule);
    let by_stratum = |one: &DrawCounts, other: &DrawCounts| one.stratum == other.stratum;
    let strata = by_rule().map(|rule| rule.chunk_by(by_stratum).count()).sum();
    let mut rates: Vec<Rate> = Rate::of(counts, 1).into_iter().collect();
    for of_rule in by_rule() {
        let name = |counts: &[DrawCounts]| counts.first().map(|count| count.rule.clone());
        let line = Rate::of(of_rule, by_rule().count());
        rates.extend(line.map(|rate| Rate { rule: name(of_rule), ..rate }));
        for alone in of_rule.chunk_by(by_stratum) {
            let stratum = alone.first().map(|count| count.stratum.clone());
            rates.extend(Rate::of(alone, strata).map(|rate| Rate { rule: name(alone), stratum, ..rate }));
        }
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(stratum: &str, pi: f64, [executed, judged, wrong]: [u64; 3]) -> DrawCounts {
        let rule = stratum.split('/').next().unwrap_or_default().into();
        DrawCounts { rule, stratum: stratum.into(), pi, executed, judged, wrong, missing: 0 }
    }

    fn mixed() -> Vec<Rate> {
        rates(&[
            counts("a/x", 0.5, [10, 5, 1]),
            counts("a/x", 1.0, [2, 2, 1]),
            counts("a/y", 0.5, [6, 3, 0]),
            counts("b/x", 0.25, [8, 2, 0]),
        ])
    }

    #[test]
    fn the_strata_add_up_to_their_rules_and_these_to_all_together() {
        let rates = mixed();
        let names: Vec<[Option<&str>; 2]> =
            rates.iter().map(|rate| [rate.rule.as_deref(), rate.stratum.as_deref()]).collect();
        let (a, b) = (Some("a"), Some("b"));
        let expected =
            [[None, None], [a, None], [a, Some("a/x")], [a, Some("a/y")], [b, None], [b, Some("b/x")]];
        assert_eq!(names, expected);
        let executed: Vec<u64> = rates.iter().map(|rate| rate.executed).collect();
        assert_eq!(executed, [26, 18, 12, 6, 8, 8]);
        // 1/0.5 and 1/1.
        assert_eq!(rates[1].errors.zip(rates[2].errors), Some((3.0, 3.0)));
        assert_eq!(rates[2].rate, Some(3.0 / 12.0));
    }

    #[test]
    fn a_line_has_one_cell_per_inclusion_probability() {
        let cell =
            |pi, [executed, drawn, judged, wrong]: [u64; 4]| RateCell { pi, executed, drawn, judged, wrong };
        let expected = [cell(0.25, [8, 2, 2, 0]), cell(0.5, [16, 8, 8, 1]), cell(1.0, [2, 2, 2, 1])];
        assert_eq!(mixed()[0].cells, expected);
        let waits = DrawCounts { missing: 3, ..counts("a/x", 0.1, [100, 7, 0]) };
        assert_eq!(rates(&[waits])[1].cells, [cell(0.1, [100, 10, 7, 0])]);
    }

    #[test]
    fn intervals_of_rules_and_of_strata_each_hold_together() {
        let rates = mixed();
        let confidence: Vec<f64> = rates.iter().map(|rate| rate.confidence).collect();
        let (rule, stratum) = (0.95_f64.powf(1.0 / 2.0), 0.95_f64.powf(1.0 / 3.0));
        for (is, expected) in confidence.iter().zip([0.95, rule, stratum, stratum, rule, stratum]) {
            assert!((is - expected).abs() < 1e-12, "{confidence:?}");
        }
    }

    #[test]
    fn what_is_unknown_is_not_printed_as_nothing() {
        let waits = DrawCounts { missing: 10, ..counts("a/x", 0.1, [100, 0, 0]) };
        let rates = rates(&[waits]);
        assert_eq!((rates[0].errors, rates[0].undetected, rates[0].rate), (None, None, None));
        let json = serde_json::to_value(&rates[0]).unwrap();
        assert!(json.get("errors").is_none() && json.get("undetected").is_none(), "{json}");
    }

    #[test]
    fn where_nothing_was_executed_there_is_no_rate() {
        assert!(rates(&[]).is_empty() && Rate::of(&[], 1).is_none());
    }
}
