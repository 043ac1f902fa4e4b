//! What one agent's flood of slow calls costs another agent.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use super::{
    load::{Client, Way},
    median::{median, ratio},
};

/// The flooding agent's calls.
const FLOOD: usize = 10_000;

/// How long each of them takes.
pub(super) const SLOW: Duration = Duration::from_millis(250);

/// The other agent's actions a second.
const RATE: f64 = 20.0;

/// How many of them are measured together.
const COUNT: usize = 200;

/// What is shown of its latencies.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("worst", 1.0)];

/// The agents of a measurement; neither has quotas of its own.
pub(super) const AGENTS: [&str; 2] = ["calm", "flood"];

/// A percentile of the calm agent's latencies, in milliseconds, over several runs.
#[derive(Serialize)]
pub(super) struct Fairness {
    what: &'static str,
    alone: Vec<f64>,
    beside: Vec<f64>,
}

/// Measures the calm agent alone, and beside the flood for as long as that lasts, in turns.
pub(super) async fn measure(clients: &mut [Client; 2], runs: usize) -> anyhow::Result<Vec<Fairness>> {
    let [calm, flood] = clients;
    let (fast, slow) = (way("direct"), way("slow"));
    let mut figures = SHARES.map(|(what, _)| Fairness { what, alone: vec![], beside: vec![] });
    for run in 1..=runs {
        let alone = steady(calm, fast, &format!("alone-{run}")).await?;
        let (began, ended) = (Instant::now(), AtomicBool::new(false));
        let prefix = format!("flood-{run}");
        let flooding = async {
            let flooded = flood.burst(slow, &prefix, FLOOD).await;
            ended.store(true, Ordering::Relaxed);
            flooded
        };
        let going_on = async {
            let (mut beside, mut part) = (Vec::new(), 0);
            while !ended.load(Ordering::Relaxed) {
                beside.extend(steady(calm, fast, &format!("beside-{run}-{part}")).await?);
                part += 1;
            }
            anyhow::Ok(beside)
        };
        let (beside, ()) = tokio::try_join!(going_on, flooding)?;
        eprintln!("run {run}: {FLOOD} slow calls took {:.0} s", began.elapsed().as_secs_f64());
        for (figure, (_, share)) in figures.iter_mut().zip(SHARES) {
            figure.alone.push(percentile(&alone, share));
            figure.beside.push(percentile(&beside, share));
        }
    }
    Ok(figures.into())
}

/// The latencies of [`COUNT`] actions.
async fn steady(calm: &mut Client, way: Way, prefix: &str) -> anyhow::Result<Vec<f64>> {
    calm.steady(way, prefix, COUNT, Instant::now(), Duration::from_secs_f64(1.0 / RATE)).await
}

fn way(tool: &'static str) -> Way {
    Way { tool, routing_key: "tool" }
}

/// In milliseconds.
fn percentile(seconds: &[f64], share: f64) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).map_or(f64::NAN, |seconds| seconds * 1_000.0)
}

/// A table of the figures.
pub(super) fn table(figures: &[Fairness]) -> Table {
    let mut table = Table::new();
    let header = format!("an agent at {RATE}/s, ms");
    let beside = format!("beside {FLOOD} slow calls");
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header([header.as_str(), "alone", &beside, "ratio"]);
    for Fairness { what, alone, beside } in figures {
        let row = [
            (*what).to_owned(),
            format!("{:.1}", median(alone)),
            format!("{:.1}", median(beside)),
            format!("{:.2}", ratio(beside, alone)),
        ];
        table.add_row(row);
    }
    table
}
