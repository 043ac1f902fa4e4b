//! How each figure of the report follows from counts: formulas with their sources, and what went into them.

mod formulas;
mod steps;

use serde::Serialize;

pub use self::formulas::{FORMULAS, Formula};
use super::{Report, rates::RateCell};

/// The derivation of a report's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Each figure's formula, in the order in which the report has them.
    pub formulas: &'static [Formula],
    /// What went into the figures of each line.
    pub lines: Vec<ExplainedLine>,
}

/// A line of the report, or a section without lines.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedLine {
    /// What it is about.
    pub line: String,
    /// The actions by inclusion probability; empty where its figures do not follow from draws.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<RateCell>,
    /// Its figures.
    pub steps: Vec<Step>,
}

/// A figure and what its formula was filled with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The name of the figure, as its formula has it.
    pub figure: &'static str,
    /// The figure; absent where it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Counts and intermediate results, besides the cells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Input>,
}

/// A number that went into a figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Input {
    /// Its name, as the formulas have it.
    pub name: String,
    /// The number.
    pub value: f64,
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
