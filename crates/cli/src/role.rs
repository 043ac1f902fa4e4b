//! Running a role.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use countersign_runtime::{
    process::{Process, until_signalled},
    settings::Settings,
    telemetry::{self, LogFormat},
};
use tokio_util::sync::CancellationToken;

use crate::{Connections, args::UsageError};

/// Arguments of a role.
#[derive(Args)]
#[command(
    after_help = "Waits for broker and database as long as it takes, and survives the loss of either.\n\
    SIGTERM and Ctrl-C drain: what is under way ends first."
)]
pub(crate) struct RoleArgs {
    /// Folder with countersign.toml; without one the defaults hold
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_CONFIG")]
    config: Option<PathBuf>,
    /// Folder with the role's keys, see `countersign keys generate`
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_KEYS")]
    keys: PathBuf,
    /// Serve /metrics (Prometheus) and /health here
    #[arg(long, value_name = "ADDR", env = "COUNTERSIGN_METRICS_LISTEN")]
    metrics_listen: Option<SocketAddr>,
    /// How logs are written, to standard error
    #[arg(long, value_enum, default_value_t = Format::Text, env = "COUNTERSIGN_LOG_FORMAT")]
    log_format: Format,
}

/// Arguments of a recorder.
#[derive(Args)]
pub(crate) struct RecorderArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// Write checkpoint and tiles here, in place of the settings' ledger.folder
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_LEDGER")]
    ledger: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Reads and checks all settings before anything connects.
fn prepare(to: &Connections, args: &RoleArgs, role: &'static str) -> anyhow::Result<Process> {
    telemetry::logs(match args.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    });
    let settings = match &args.config {
        Some(dir) => Settings::read(dir).map_err(|error| UsageError(error.to_string()))?,
        None => Settings::default(),
    };
    if let Some(listen) = args.metrics_listen {
        telemetry::metrics(listen)?;
    }
    Ok(Process::new(role, to.amqp()?, to.database()?, settings, CancellationToken::new())?)
}

pub(crate) async fn router(to: &Connections, args: RoleArgs) -> anyhow::Result<ExitCode> {
    let process = prepare(to, &args, "router")?;
    let keys = countersign_router::Keys::read(&args.keys)?;
    until_signalled(process.stop.clone(), countersign_router::run(process, keys)).await;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn executor(to: &Connections, args: RoleArgs) -> anyhow::Result<ExitCode> {
    let process = prepare(to, &args, "executor")?;
    let keys = countersign_executor::Keys::read(&args.keys)?;
    until_signalled(process.stop.clone(), countersign_executor::run(process, keys)).await;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn recorder(to: &Connections, args: RecorderArgs) -> anyhow::Result<ExitCode> {
    let mut process = prepare(to, &args.role, "recorder")?;
    if let Some(folder) = args.ledger {
        let mut settings = process.settings.as_ref().clone();
        settings.ledger.folder = folder;
        process.settings = settings.into();
    }
    let keys = countersign_recorder::Keys::read(&args.role.keys)?;
    until_signalled(process.stop.clone(), countersign_recorder::run(process, keys)).await?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn sampler(to: &Connections, args: RoleArgs) -> anyhow::Result<ExitCode> {
    let process = prepare(to, &args, "sampler")?;
    let keys = countersign_sampler::Keys::read(&args.keys)?;
    until_signalled(process.stop.clone(), countersign_sampler::run(process, keys)).await;
    Ok(ExitCode::SUCCESS)
}
