//! `cargo xtask bench`: throughput and idle latency on services with default durability.

mod ledger;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use countersign_testkit::{
    clients::{Agent, proposal},
    system::System,
    tools::ToolService,
};
use serde_json::{Value, json};

use crate::build;

/// The measurement.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Actions in one run
    #[arg(long, default_value_t = 20_000)]
    actions: usize,
    /// Single actions for the idle latency
    #[arg(long, default_value_t = 200)]
    singles: usize,
    /// Runs; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Then fill the ledger up to so many entries, and time what is done with it
    #[arg(long, value_name = "ENTRIES")]
    ledger: Option<u64>,
}

pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let binary = build::binary(true)?;
    let config = build::workspace().join("tests/fixtures/gate");
    let measured = build::with_services(async |services| {
        let tools = ToolService::start(|_: &str, _: &Value| Ok(json!("done"))).await?;
        let mut system = set_up(build::place(services, binary), &config, tools.url()).await?;
        system.start_all()?;
        let result = match (measure(&system, &args).await, args.ledger) {
            (Ok(()), Some(entries)) => ledger::measure(&system, entries).await,
            (measured, _) => measured,
        };
        system.stop().await?;
        result
    })
    .await?;
    Ok(if measured.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn set_up(
    place: countersign_testkit::system::Place,
    config: &Path,
    tools: &str,
) -> anyhow::Result<System> {
    System::set_up(place, config, "olga", |name| (name == "TEST_TOOLS_URL").then(|| tools.to_owned())).await
}

async fn measure(system: &System, args: &BenchArgs) -> anyhow::Result<()> {
    let mut agent = Agent::connect(system.url("agent-one")?, "one").await?;
    burst(&mut agent, "warm", 500).await?;
    let (mut rates, mut lag) = (Vec::new(), 0.0_f64);
    for run in 0..args.runs {
        let rate = burst(&mut agent, &format!("run{run}"), args.actions).await?;
        eprintln!("run {}: {rate:.0} actions/s", run + 1);
        rates.push(rate);
        lag = lag.max(ledger::lag(system).await?);
    }
    rates.sort_by(f64::total_cmp);
    let mut singles = Vec::new();
    for number in 0..args.singles {
        let started = Instant::now();
        agent.propose(&format!("single-{number}"), "write_record", json!({"n": number})).await?;
        agent.outcome(Duration::from_secs(30)).await?.context("a single action was not answered")?;
        singles.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    singles.sort_by(f64::total_cmp);
    let at = |share: f64| singles[((singles.len() - 1) as f64 * share).round() as usize];
    println!(
        "{} allowed actions, first publish to last outcome: {:.0} actions/s (min {:.0}, max {:.0}, {} runs)",
        args.actions,
        rates[rates.len() / 2],
        rates[0],
        rates[rates.len() - 1],
        rates.len(),
    );
    println!("the ledger's lag when the last outcome had come, at worst: {lag:.2} s");
    println!("one action when idle, proposal to outcome: p50 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99));
    Ok(())
}

/// Proposes `count` actions at once and waits for their outcomes. Returns actions per second.
async fn burst(agent: &mut Agent, prefix: &str, count: usize) -> anyhow::Result<f64> {
    let filler = "x".repeat(220);
    let bodies: Vec<Vec<u8>> = (0..count)
        .map(|number| {
            let arguments = json!({"n": number, "filler": filler});
            proposal(&agent.id, &format!("{prefix}-{number}"), "write_record", arguments)
                .to_string()
                .into_bytes()
        })
        .collect();
    let started = Instant::now();
    agent.send_raw(&bodies).await?;
    for _ in 0..count {
        agent
            .outcome(Duration::from_secs(120))
            .await?
            .context("an action was not answered within two minutes")?;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
