//! How each figure of the report follows from counts.

use countersign_app::report::{
    RateCell, Report,
    explanation::{ExplainedLine, Explanation, Formula, Input, Step},
};

use crate::output::{Block, blocks, fit};

/// The formulas with their sources, then each line's cells and what went into its figures.
pub fn explained(report: &Report, explanation: &Explanation) -> String {
    let span = format!("{} to {}", report.from.format("%F %T"), report.to.format("%F %T UTC"));
    let formulas: String = explanation.formulas.iter().map(formula).collect();
    let lines: String = explanation.lines.iter().map(line).collect();
    fit(&format!(
        "{span}\n\nFORMULAS\nA cell is what was executed and drawn with one inclusion probability π: N actions \
         executed, n audits judged, w found wrong.{formulas}{lines}\n\n\
         docs/recompute.py computes rates, intervals and bounds again from exported evidence."
    ))
}

fn formula(formula: &Formula) -> String {
    let Formula { figure, formula, source } = formula;
    format!("\n{figure}\n  {formula}\n  Source: {source}.")
}

fn line(line: &ExplainedLine) -> String {
    let steps: String = line.steps.iter().map(step).collect();
    let cells = if line.cells.is_empty() { String::new() } else { format!("\n{}", cells(&line.cells)) };
    format!("\n\n{}{cells}{steps}", line.line)
}

fn cells(cells: &[RateCell]) -> String {
    let row = |cell: &RateCell| {
        let RateCell { pi, executed, drawn, judged, wrong } = cell;
        [number(*pi), executed.to_string(), drawn.to_string(), judged.to_string(), wrong.to_string()]
    };
    let all = Block { name: "  cells".into(), rows: cells.iter().map(row).collect() };
    blocks(["π", "executed", "drawn", "judged", "wrong"], &[all])
}

fn step(step: &Step) -> String {
    let Step { figure, value, from } = step;
    let value = value.map_or_else(|| "unknown".into(), number);
    let from: Vec<String> =
        from.iter().map(|Input { name, value }| format!("{name} {}", number(*value))).collect();
    let from = if from.is_empty() { String::new() } else { format!("\n    from {}", from.join(", ")) };
    format!("\n  {figure}: {value}{from}")
}

/// A number with up to nine decimal places.
fn number(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
