//! `countersign`: a subcommand per role and per task.

use std::process::ExitCode;

use clap::Parser as _;
use countersign_cli::{Cli, UsageError, run};

#[tokio::main]
async fn main() -> ExitCode {
    // Already installed is as good as installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("countersign: {error:#}");
            // EX_USAGE of sysexits.h: nothing was attempted, the configuration or the call is wrong.
            ExitCode::from(if error.is::<UsageError>() { 64 } else { 1 })
        }
    }
}
