//! The report as tables that fit a terminal of 80 columns.

mod at_most;
mod compared;
mod explained;
mod figures;
mod gold;
mod learning;
mod lines;
mod rates;
mod reviewed;
mod scores;

use countersign_app::report::Report;

pub use self::{at_most::at_most, compared::compared, explained::explained, reviewed::reviewed};
use crate::output::fit;

/// Tables with a line per pattern and rule, per rule and stratum, and what their columns mean.
pub fn render(report: &Report) -> String {
    let span = format!("{} to {}", report.from.format("%F %T"), report.to.format("%F %T UTC"));
    let [lines, rates] = [lines::render(&report.lines), rates::render(&report.rates)];
    let scored = scores::render(&report.scored);
    let [gold, learning] = [gold::render(&report.gold), learning::render(&report.learning)];
    fit(&format!("{span}\n\n{lines}{rates}{scored}{gold}{learning}"))
}

#[cfg(test)]
mod tests;
