//! The machine of a measurement, and the versions of its programs.

use std::{fs, process::Command};

use anyhow::Context as _;
use countersign_testkit::system::System;
use serde_json::{Map, Value, json};

use countersign_testkit::build;

/// The settings that determine how fast PostgreSQL writes.
const SETTINGS: [&str; 8] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "wal_level",
    "max_connections",
];

/// Machine, compiler, commit and servers.
pub(super) async fn described(system: &System) -> anyhow::Result<Value> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model =
        cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(json!({
        "cores": cores, "cpu": model, "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "memory": read("/proc/meminfo").lines().next(), "at": chrono::Utc::now(),
        "version": env!("CARGO_PKG_VERSION"), "rustc": output_of("rustc", &["--version"]),
        // Absent in an unpacked archive.
        "commit": output_of("git", &["describe", "--always", "--dirty", "--abbrev=40", "--match="]),
        "postgresql": postgresql(system).await?, "rabbitmq": rabbitmq(system).await?,
    }))
}

/// The output of a program; `None` if it is missing or fails.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(build::workspace()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

async fn postgresql(system: &System) -> anyhow::Result<Map<String, Value>> {
    let tx = system.store()?.transaction().await?;
    let sql = "SELECT name, current_setting(name) FROM UNNEST($1::text[]) name";
    let rows = tx.query(sql, &[&SETTINGS.as_slice()]).await?;
    Ok(rows.iter().map(|row| (row.get(0), Value::String(row.get(1)))).collect())
}

/// RabbitMQ's versions, from its management API.
async fn rabbitmq(system: &System) -> anyhow::Result<Value> {
    let mut url = reqwest::Url::parse(&system.place.management_url)?.join("/api/overview")?;
    let (user, password) = (url.username().to_owned(), url.password().map(str::to_owned));
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url).basic_auth(user, password).send().await?.error_for_status()?.bytes().await?;
    let overview: Value = serde_json::from_slice(&answer).context("the overview of RabbitMQ")?;
    Ok(json!({"version": overview["rabbitmq_version"], "erlang": overview["erlang_version"]}))
}
