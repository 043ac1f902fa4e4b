//! The report as a table.

mod learning;

use countersign_app::report::{Line, Percentiles, Rate, Report};

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
         errors prevented: rejected by a reviewer; errors found: judged wrong by an auditor after execution.{}{}",
        report.from.format("%F %T"),
        report.to.format("%F %T UTC"),
        rates(&report.rates),
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
        "stratum",
        "executed",
        "audited",
        "wrong",
        "not judged\nyet",
        "error rate\n95 % interval",
        "errors\nestimated",
        "errors\nundetected",
    ]);
    for rate in rates {
        let estimate = rate.rate.map_or_else(|| "unknown".into(), percent);
        table.add_row([
            rate.stratum.clone().map_or_else(|| "ALL THAT WAS EXECUTED".into(), |name| format!("  {name}")),
            rate.executed.to_string(),
            rate.judged.to_string(),
            rate.wrong.to_string(),
            rate.missing.to_string(),
            format!("{estimate}\n{} to {}", percent(rate.lower), percent(rate.upper)),
            format!("{:.1}", rate.errors),
            format!("{:.1}", rate.undetected),
        ]);
    }
    format!(
        "\n\n{table}\n\
         error rate: Hájek's estimate with weights 1/π, interval of Korn and Graubard; an audit that is not judged yet\n\
         counts as right below and as wrong above."
    )
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
