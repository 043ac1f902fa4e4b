//! Countersign's own commands: `cargo xtask demo`, `test`, `up`, `bench`, `torture`.

mod demo;
mod example;
mod fuzz;
mod humans;
mod program;
mod simulate;
mod test;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use countersign_bench as bench;
use countersign_torture as torture;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Everything that the project needs, on services of its own",
    long_about = "\
Everything that the project needs, on services of its own.\n\n\
RabbitMQ and PostgreSQL are taken from COUNTERSIGN_AMQP_URL (with COUNTERSIGN_MANAGEMENT_URL) and \
COUNTERSIGN_DATABASE_URL where these are set. Otherwise private instances are started from the machine's own \
programs on free loopback ports in a scratch folder, and stopped at the end; missing programs are installed by \
the system's package manager."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an example through the whole system and show what happened
    Demo(demo::DemoArgs),
    /// Pass every test; further arguments go to the test runner
    Test(test::TestArgs),
    /// Start services and all roles, and run until interrupted
    Up(up::UpArgs),
    /// Play what the statistics promise, at size: intervals, false alarms, the limit of a sampling plan
    Simulate(simulate::SimulateArgs),
    /// Measure throughput and latency
    Bench(bench::BenchArgs),
    /// Break everything on purpose and check what clients and tools saw against the promises
    Torture(torture::TortureArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    // It fails only if a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match Cli::parse().command {
        Command::Demo(args) => demo::run(args).await,
        Command::Test(args) => test::run(args).await,
        Command::Up(args) => up::run(args).await,
        Command::Simulate(args) => simulate::run(&args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Torture(args) => torture::run(args).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
