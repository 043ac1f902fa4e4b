//! Error rates of rules with a score, estimated with its help.

use countersign_statistics::{
    difference::{Difference, ScoredCell, difference},
    estimate::{ALPHA, Cell, each_of},
};
use countersign_store::rates::ScoreCounts;
use serde::{Deserialize, Serialize};

/// The error rate of a rule by the difference estimator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredRate {
    /// The rule.
    pub rule: String,
    /// Actions whose tool was called.
    pub executed: u64,
    /// Audits that were drawn, judged or not.
    pub audits: u64,
    /// How many errors the scores predicted.
    pub predicted: f64,
    /// The estimated number of errors; absent where nothing was judged of what was drawn with one inclusion probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// The estimated error rate, 0 to 1; absent where `errors` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The confidence of this interval alone, 0 to 1. Those of all rules with a score hold together with 95 % confidence.
    pub confidence: f64,
    /// The lower end of the interval of the rate.
    pub lower: f64,
    /// The upper end of the interval of the rate.
    pub upper: f64,
    /// How many more audits it would have taken for an estimate of the same variance, without scores and with one inclusion probability for
    /// all; below 0 where it would have taken fewer. Absent with fewer than ten errors found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<f64>,
}

/// One rate for each rule with a score. Counts of one rule must follow each other.
pub(super) fn rates(counts: &[ScoreCounts]) -> Vec<ScoredRate> {
    let by_rule = || counts.chunk_by(|one, other| one.rule == other.rule);
    let alpha = each_of(by_rule().count(), ALPHA);
    by_rule().filter_map(|counts| Some(rate(&counts.first()?.rule, counts, alpha))).collect()
}

fn rate(rule: &str, counts: &[ScoreCounts], alpha: f64) -> ScoredRate {
    let cell = |count: &ScoreCounts| {
        let ScoreCounts { pi, score, executed, judged, wrong, missing, .. } = *count;
        ScoredCell { score, cell: Cell { pi, executed, judged, wrong, missing } }
    };
    let cells: Vec<ScoredCell> = counts.iter().map(cell).collect();
    let Difference { errors, rate, interval, uniform } = difference(&cells, alpha);
    let audits: u64 = counts.iter().map(|count| count.judged + count.missing).sum();
    ScoredRate {
        rule: rule.into(),
        executed: counts.iter().map(|count| count.executed).sum(),
        audits,
        predicted: counts.iter().map(|count| count.score * count.executed as f64).sum(),
        errors,
        rate,
        confidence: 1.0 - alpha,
        lower: interval.lower,
        upper: interval.upper,
        saved: uniform.map(|uniform| uniform - audits as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rule: &str, [pi, score]: [f64; 2], [executed, judged, wrong]: [u64; 3]) -> ScoreCounts {
        ScoreCounts { rule: rule.into(), pi, score, executed, judged, wrong, missing: 0 }
    }

    #[test]
    fn each_rule_has_a_rate_and_all_intervals_hold_together() {
        let rates = rates(&[
            counts("a", [0.1, 0.01], [1_000, 100, 2]),
            counts("a", [0.5, 0.3], [100, 50, 10]),
            counts("b", [0.1, 0.0], [200, 20, 1]),
        ]);
        assert_eq!(rates.iter().map(|rate| rate.rule.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!((rates[0].errors.unwrap() - 40.0).abs() < 1e-9 && (rates[0].predicted - 40.0).abs() < 1e-9);
        assert_eq!((rates[0].executed, rates[0].audits), (1_100, 150));
        assert!(rates[0].saved.unwrap() > 0.0, "{:?}", rates[0]);
        assert!((rates[0].confidence - 0.95_f64.sqrt()).abs() < 1e-12);
        assert_eq!(rates[1].saved, None, "one error says nothing of a variance");
    }
}
