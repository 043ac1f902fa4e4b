//! The report as a table.

mod at_most;
mod gold;
mod learning;

use countersign_app::report::{Line, Percentiles, Rate, Report};

pub use self::at_most::explain;
use crate::output::table;

/// A table with a line per pattern and rule, and what its columns mean.
pub fn render(report: &Report) -> String {
    let mut table = table([
        "pattern / rule",
        "actions",
        "executed",
        "reviews\n/100",
        "audits\n/100",
        "added latency s\np50 / p95 / p99",
        "human part s\np50 / p95",
        "machine part s\np50 / p95",
        "errors\nprevented",
        "errors\nfound",
        "in\ndoubt",
        "open",
    ]);
    for line in &report.lines {
        table.add_row(row(line));
    }
    format!(
        "{} to {}\n{table}\n\
         added latency: from acceptance to the start of the call; human part: while a person was asked.\n\
         errors prevented: rejected by a reviewer; errors found: judged wrong by an auditor after execution.{}{}{}",
        report.from.format("%F %T"),
        report.to.format("%F %T UTC"),
        rates(&report.rates),
        gold::render(&report.gold),
        learning::render(&report.learning),
    )
}

/// A share, 0 to 1, in percent.
fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Error rates of everything that was executed, estimated from the audits.
fn rates(rates: &[Rate]) -> String {
    if rates.is_empty() {
        return String::new();
    }
    let mut table = table([
        "rule / stratum",
        "executed",
        "audited",
        "wrong",
        "not judged\nyet",
        "error rate\n95 % interval",
        "errors\nestimated",
        "errors\nundetected",
        "undetected\nat most,\nat any time",
    ]);
    for rate in rates {
        let name = match (&rate.rule, &rate.stratum) {
            (None, _) => "ALL THAT WAS EXECUTED".into(),
            (Some(rule), None) => format!("  {rule}"),
            (Some(_), Some(stratum)) => format!("    {stratum}"),
        };
        table.add_row([
            name,
            rate.executed.to_string(),
            rate.judged.to_string(),
            rate.wrong.to_string(),
            rate.missing.to_string(),
            format!("{}\n{}", known(rate.rate, percent), interval(rate)),
            known(rate.errors, |errors| format!("{errors:.1}")),
            known(rate.undetected, |errors| format!("{errors:.1}")),
            rate.at_most.undetected.to_string(),
        ]);
    }
    format!(
        "\n\n{table}\n\
         error rate: each audit stands for the same number of actions with its inclusion probability. The intervals of all\n\
         rules hold together with 95 % confidence, and so do those of all strata: each alone has the confidence that stands\n\
         beside it. An audit that is not judged yet counts as right below and as wrong above; unknown: nothing is judged of\n\
         what was drawn with one of the probabilities. At most, at any time: report --at-most explains it."
    )
}

fn known(value: Option<f64>, print: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "unknown".into(), print)
}

/// The interval of a rate, with its confidence where that is not 95 %.
fn interval(rate: &Rate) -> String {
    let [lower, upper] = [rate.lower, rate.upper].map(percent);
    match 100.0 * rate.confidence {
        usual if (usual - 95.0).abs() < 5e-3 => format!("{lower} to {upper}"),
        wider => format!("{lower} to {upper} ({wider:.2} %)"),
    }
}

fn row(line: &Line) -> Vec<String> {
    let name = match (&line.rule, line.pattern.as_str()) {
        (Some(rule), _) => format!("  {rule}"),
        (None, "approval") => "PRE-EXECUTION APPROVAL".into(),
        (None, "audit") => "POST-EXECUTION AUDIT".into(),
        (None, other) => other.to_uppercase(),
    };
    let two = |part: Option<Percentiles>| {
        part.map_or_else(String::new, |part| format!("{:.3} / {:.3}", part.p50, part.p95))
    };
    let three = |part: Option<Percentiles>| {
        part.map_or_else(String::new, |part| format!("{:.3} / {:.3} / {:.3}", part.p50, part.p95, part.p99))
    };
    vec![
        name,
        line.actions.to_string(),
        format!("{:.1} %", 100.0 * line.executed_share()),
        format!("{:.1}", line.reviews_per_100()),
        format!("{:.1}", line.audits_per_100()),
        three(line.added_latency),
        two(line.human_latency),
        two(line.machine_latency),
        line.errors_prevented.to_string(),
        line.errors_found.to_string(),
        line.in_doubt.to_string(),
        line.open.to_string(),
    ]
}
