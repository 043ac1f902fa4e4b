//! What an explanation says of a line of the report.

use serde::Serialize;

use crate::report::rates::RateCell;

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
