//! What patterns and rules did, and how long it took.

use countersign_app::report::{Line, Percentiles};

use crate::output::{Block, blocks};

/// A table of counts and one of waiting times, with a line per pattern and per rule within it.
pub(super) fn render(lines: &[Line]) -> String {
    let block = |line: &Line| Block::new(name(line), counts(line));
    let counts: Vec<Block<8>> = lines.iter().map(block).collect();
    let timed = lines.iter().filter(|line| line.added_latency.is_some());
    let times: Vec<Block<3>> = timed.map(|line| Block::new(name(line), latencies(line))).collect();
    let counts = blocks(
        [
            "actions",
            "executed",
            "reviews\n/100",
            "audits\n/100",
            "errors\nprevented",
            "errors\nfound",
            "in\ndoubt",
            "open",
        ],
        &counts,
    );
    let times = blocks(
        [
            "added latency s\np50 / p95 / p99",
            "human part s\np50 / p95 / p99",
            "machine part s\np50 / p95 / p99",
        ],
        &times,
    );
    format!(
        "{counts}\n\
         errors prevented: rejected by a reviewer; errors found: judged wrong by an auditor after execution.\n\n\
         {times}\n\
         added latency: from acceptance to the start of the call; human part: while a person was asked."
    )
}

fn name(line: &Line) -> String {
    match (&line.rule, line.pattern.as_str()) {
        (Some(rule), _) => format!("  {rule}"),
        (None, "approval") => "PRE-EXECUTION APPROVAL".into(),
        (None, "audit") => "POST-EXECUTION AUDIT".into(),
        (None, other) => other.to_uppercase(),
    }
}

fn counts(line: &Line) -> [String; 8] {
    [
        line.actions.to_string(),
        format!("{:.1} %", 100.0 * line.executed_share()),
        format!("{:.1}", line.reviews_per_100()),
        format!("{:.1}", line.audits_per_100()),
        line.errors_prevented.to_string(),
        line.errors_found.to_string(),
        line.in_doubt.to_string(),
        line.open.to_string(),
    ]
}

fn latencies(line: &Line) -> [String; 3] {
    [line.added_latency, line.human_latency, line.machine_latency].map(percentiles)
}

/// Three significant figures are enough: what took hours needs no milliseconds.
fn percentiles(part: Option<Percentiles>) -> String {
    let seconds = |value: f64| match value {
        long if long >= 1_000.0 => format!("{long:.0}"),
        middling if middling >= 10.0 => format!("{middling:.1}"),
        short => format!("{short:.3}"),
    };
    part.map_or_else(String::new, |Percentiles { p50, p95, p99 }| [p50, p95, p99].map(seconds).join(" / "))
}
