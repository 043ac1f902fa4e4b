//! Builds the binary, and runs code on services that are always stopped.

use std::{path::PathBuf, process::Command};

use crate::{services::Services, system::Place};
use anyhow::{Context as _, ensure};
use tokio::signal::unix::{SignalKind, signal};

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map(PathBuf::from).unwrap_or(manifest)
}

/// Builds `countersign` with a test-only feature, and returns a copy under its own name.
pub fn featured(feature: &str) -> anyhow::Result<PathBuf> {
    let built = build(false, Some(feature))?;
    let kept = built.with_file_name(format!("countersign-{feature}"));
    std::fs::copy(&built, &kept).with_context(|| format!("copying {}", built.display()))?;
    // The usual path must not contain the test build.
    binary(false)?;
    Ok(kept)
}

/// Builds `countersign` and returns its path.
pub fn binary(release: bool) -> anyhow::Result<PathBuf> {
    build(release, None)
}

fn build(release: bool, feature: Option<&str>) -> anyhow::Result<PathBuf> {
    eprintln!("building countersign ...");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--locked", "--package", "countersign-cli"]).current_dir(workspace());
    if release {
        command.arg("--release");
    }
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    ensure!(command.status().context("running cargo")?.success(), "countersign does not build");
    Ok(target().join(if release { "release" } else { "debug" }).join("countersign"))
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Where RabbitMQ 4 is installed.
pub fn rabbitmq_4() -> PathBuf {
    target().join("rabbitmq-4")
}

/// Starts services, runs `work` until it is done or interrupted, and stops them whatever happened.
/// `None`: interrupted.
pub async fn with_services<T>(
    work: impl AsyncFnOnce(&Services) -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    with(Services::start(), work).await
}

/// The same with these services.
pub async fn with<T>(
    services: impl Future<Output = anyhow::Result<Services>>,
    work: impl AsyncFnOnce(&Services) -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    eprintln!("starting services ...");
    let services = tokio::select! {
        services = services => services?,
        _ = interrupt.recv() => return Ok(None),
        _ = terminate.recv() => return Ok(None),
    };
    let done = tokio::select! {
        done = work(&services) => done.map(Some),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
    };
    eprintln!("stopping services ...");
    services.stop().await?;
    done
}

/// A place for one system on these services.
pub fn place(services: &Services, binary: PathBuf) -> Place {
    Place {
        amqp_url: services.amqp_url.clone(),
        management_url: services.management_url.clone(),
        database_url: services.database_url.clone(),
        scratch: services.scratch().into(),
        binary,
    }
}
