//! Error rates of everything that was executed, estimated from the audits.

use countersign_app::report::Rate;

use super::figures::{known, percent};
use crate::output::{Block, blocks};

/// A table of rates with their intervals, and one of numbers of errors. Empty where nothing was executed.
pub(super) fn render(rates: &[Rate]) -> String {
    if rates.is_empty() {
        return String::new();
    }
    let of = |row: fn(&Rate) -> [String; 6]| {
        rates.iter().map(|rate| Block::new(name(rate), row(rate))).collect::<Vec<_>>()
    };
    let errors = |rate: &Rate| {
        let number = |errors: Option<f64>| known(errors, |errors| format!("{errors:.1}"));
        let bound = &rate.at_most;
        Block::new(
            name(rate),
            [
                number(rate.errors),
                number(rate.undetected),
                bound.errors.to_string(),
                bound.undetected.to_string(),
            ],
        )
    };
    let errors: Vec<Block<4>> = rates.iter().map(errors).collect();
    format!(
        "\n\n{}\n\
         error rate: each audit stands for the same number of actions with its inclusion probability. The intervals \
         of all rules hold together with 95 % confidence, and so do those of all strata: each alone has the \
         confidence that stands beside it. An audit that is not judged yet counts as right below and as wrong above; \
         unknown: nothing is judged of what was drawn with one of the probabilities.\n\n\
         {}\n\
         at most, at any time: however often you look and whatever agents do; report --at-most explains it. \
         undetected: nobody has found them.",
        blocks(HEADER, &of(row)),
        blocks(
            [
                "errors\nestimated",
                "of these\nundetected",
                "errors at most,\nat any time",
                "undetected at most,\nat any time"
            ],
            &errors
        ),
    )
}

/// The columns of [`row`].
pub(super) const HEADER: [&str; 6] =
    ["executed", "audited", "wrong", "not judged\nyet", "error\nrate", "interval (its confidence)"];

/// A rate with what it was estimated from.
pub(super) fn row(rate: &Rate) -> [String; 6] {
    [
        rate.executed.to_string(),
        rate.judged.to_string(),
        rate.wrong.to_string(),
        rate.missing.to_string(),
        known(rate.rate, percent),
        interval(rate.lower, rate.upper, rate.confidence),
    ]
}

fn name(rate: &Rate) -> String {
    match (&rate.rule, &rate.stratum) {
        (None, _) => "ALL THAT WAS EXECUTED".into(),
        (Some(rule), None) => format!("  {rule}"),
        (Some(_), Some(stratum)) => format!("    {stratum}"),
    }
}

/// The interval of a rate, with its confidence.
pub(super) fn interval(lower: f64, upper: f64, confidence: f64) -> String {
    let [lower, upper] = [lower, upper].map(percent);
    let confidence = 100.0 * confidence;
    let digits = if (confidence - confidence.round()).abs() < 5e-3 { 0 } else { 2 };
    format!("{lower} to {upper} ({confidence:.digits$} %)")
}
