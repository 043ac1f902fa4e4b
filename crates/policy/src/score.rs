//! Scores: how likely a rule thinks an action to be wrong, and the inclusion probability that follows.

use std::f64::consts::FRAC_1_SQRT_2;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    audit::AuditSpec,
    expr::{Bindings, Expression},
};

/// The score of an action for which it could not be evaluated: nothing is known, so that it is audited as often as any.
const UNKNOWN: f64 = 0.5;

/// Below this a score is 0: hardly more is known of one in 10,000, and estimates go through every value.
const LEAST: f64 = 1e-4;

/// The most halvings of π on the grid: below 2^-20 only the rate matters.
const HALVINGS: u32 = 40;

/// A rule's score.
#[derive(Debug)]
pub(crate) struct ScoreExpression {
    pub(crate) expression: Expression,
    /// The line that says so, for warnings.
    pub(crate) line: u64,
}

/// How likely an action is wrong, as its rule computes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// 0 to 1, to two significant digits; 1/2 where it could not be evaluated.
    pub value: f64,
    /// Why it could not be evaluated. It never contains values from the action, which may be personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ScoreExpression {
    /// The score of an action. A score never fails a rule: an action without one is scored 1/2.
    pub(crate) fn of(&self, bindings: &Bindings<'_>) -> Score {
        let value = self.expression.to_json(bindings).and_then(|value| probability(&value));
        match value {
            Ok(value) => Score { value: rounded(value), error: None },
            Err(message) => Score { value: UNKNOWN, error: Some(message) },
        }
    }
}

/// A number from 0 to 1. Infinity and NaN have no form in JSON, and come as null.
fn probability(value: &Value) -> Result<f64, String> {
    let number = value.as_f64().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "the expression must return a number from 0.0 to 1.0".to_owned())
}

/// To two significant digits: few values, from which audits can be estimated together.
fn rounded(value: f64) -> f64 {
    if value < LEAST { 0.0 } else { format!("{value:.1e}").parse().unwrap_or(value) }
}

impl AuditSpec {
    /// The audit rate of an action with this score: the larger of the rate and `ceiling` · 2√(f(1 − f)), the latter rounded up to
    /// a power of √2 and at most the ceiling. With f above 1/2 it stays at the ceiling. The rate where there is no score.
    ///
    /// That is Neyman's allocation (J. R. Stat. Soc. 97, 1934) for errors that happen with probability f. It would audit less what
    /// is surely wrong, of which an audit teaches little; but that is what most needs to be put right, and nobody is to escape
    /// audits by looking worse. Of few probabilities, each has enough audits to estimate from.
    pub fn scored(&self, score: Option<f64>) -> f64 {
        let Some(score) = score else { return self.rate };
        let uncertain = score.min(UNKNOWN);
        let wanted = self.ceiling * 2.0 * (uncertain * (1.0 - uncertain)).sqrt();
        grid(wanted).min(self.ceiling).max(self.rate)
    }
}

/// The smallest of 1, 2^-½, 2^-1, 2^-1½ ... that is not below `wanted`.
fn grid(wanted: f64) -> f64 {
    let power = |n: u32| {
        let halves = 0.5_f64.powi((n / 2) as i32);
        if n.is_multiple_of(2) { halves } else { halves * FRAC_1_SQRT_2 }
    };
    (0..=HALVINGS).map(power).take_while(|power| *power >= wanted).last().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(rate: f64, ceiling: f64) -> AuditSpec {
        AuditSpec { rate, floor: rate, ceiling, at_least: 0, group: "auditors".into() }
    }

    #[test]
    fn a_score_never_lowers_the_rate_and_stays_below_the_ceiling() {
        let spec = spec(0.05, 0.3);
        assert_eq!((spec.scored(None), spec.scored(Some(0.0))), (0.05, 0.05));
        for n in 0..=1_000 {
            let pi = spec.scored(Some(f64::from(n) / 1_000.0));
            assert!((0.05..=0.3).contains(&pi), "{n}: {pi}");
        }
    }

    #[test]
    fn pi_follows_the_uncertainty_on_a_small_grid() {
        let spec = spec(0.001, 1.0);
        let mut values: Vec<f64> = Vec::new();
        for n in 0..=10_000 {
            let f = f64::from(n) / 10_000.0;
            let (pi, wanted) = (spec.scored(Some(f)), 2.0 * (f * (1.0 - f)).sqrt());
            if (0.001..=0.5).contains(&f) {
                assert!(pi >= wanted && pi < wanted * 1.4143, "{f}: {pi} for {wanted}");
            }
            // Nobody escapes by looking worse.
            assert!(values.last().is_none_or(|before| pi >= *before), "{f}: {pi}");
            values.push(pi);
        }
        values.dedup();
        assert!(values.len() < 20, "{} values", values.len());
        assert_eq!(spec.scored(Some(0.2)), 1.0);
        assert_eq!(spec.scored(Some(1.0)), 1.0);
    }

    #[test]
    fn scores_have_two_significant_digits() {
        for (given, stored) in
            [(0.023_449, 0.023), (0.9999, 1.0), (1.0, 1.0), (0.5, 0.5), (0.000_09, 0.0), (0.000_1, 0.000_1)]
        {
            assert_eq!(rounded(given), stored);
        }
    }
}
