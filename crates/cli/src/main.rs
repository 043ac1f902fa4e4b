//! `countersign`: a subcommand per role and per task.

use std::process::ExitCode;

use clap::Parser as _;
use countersign_cli::{Cli, is_usage_error, run};

/// Returns memory to the system after a burst; `.cargo/config.toml` sets how much it keeps.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // It fails only if a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("countersign: {error:#}");
            // EX_USAGE of sysexits.h: nothing was attempted, the configuration or the call is wrong.
            ExitCode::from(if is_usage_error(&error) { 64 } else { 1 })
        }
    }
}
