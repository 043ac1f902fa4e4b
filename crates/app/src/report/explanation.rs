//! How each figure of the report follows from counts: formulas with their sources, and what went into them.

mod formulas;
mod lines;
mod steps;

use serde::Serialize;

pub use self::{
    formulas::{FORMULAS, Formula},
    lines::{ExplainedLine, Input, Step},
};
use super::Report;

/// The derivation of a report's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Each figure's formula, in the order in which the report has them.
    pub formulas: &'static [Formula],
    /// What went into the figures of each line.
    pub lines: Vec<ExplainedLine>,
}

/// Explains the figures of a report. Everything follows from what is in it.
pub fn explain(report: &Report) -> Explanation {
    let rates = report.rates.iter().map(|rate| steps::of_rate(steps::name(rate), rate));
    let gold = &report.gold;
    let auditors = gold.auditors.iter().map(|line| steps::of_auditors(line, gold.auditors.len()));
    let corrected = gold.corrected.iter().map(|line| steps::of_corrected(line, &report.rates));
    let learning = &report.learning;
    let correction =
        learning.correction.iter().zip(&report.rates).map(|(found, all)| steps::of_correction(found, all));
    let agreement = learning.agreement.raw.map(|_| steps::of_agreement(&learning.agreement));
    let versions = learning.versions.iter().flat_map(steps::of_version);
    let lines = rates.chain(auditors).chain(corrected).chain(correction).chain(agreement).chain(versions);
    Explanation { formulas: FORMULAS, lines: lines.collect() }
}

#[cfg(test)]
mod tests;
