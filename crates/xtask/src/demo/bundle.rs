//! Checks an action's bundle as a third party would.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use countersign_core::ids::ActionId;
use countersign_testkit::{system::System, wait::eventually};
use serde_json::Value;

/// Waits until the ledger has all evidence.
pub(super) async fn recorded(system: &System) -> anyhow::Result<()> {
    let store = system.store()?;
    eventually("all evidence is recorded", Duration::from_secs(60), async || {
        let tx = store.transaction().await.ok()?;
        let row = tx.query_one("SELECT NOT EXISTS (SELECT FROM evidence_pending)", &[]).await.ok()?;
        row.get::<_, bool>(0).then_some(())
    })
    .await
}

/// Exports an action's bundle and checks it with only this program and the ledger's public key, without database or broker.
/// Returns a one-line summary.
pub(super) fn proved(system: &System, action: ActionId) -> anyhow::Result<String> {
    let file = system.place.scratch.join(format!("bundle-{action}.json"));
    let mut prove = system.command();
    prove.args(["ledger", "prove", &action.to_string()]);
    fs::write(&file, output(prove)?)?;
    let mut check = Command::new(&system.place.binary);
    check.env_clear().args(["ledger", "check", "--json"]).arg(&file).arg("--key").arg(system.ledger_key());
    let shown: Value = serde_json::from_slice(&output(check)?)?;
    let entries = shown["entries"].as_array().map_or(0, Vec::len);
    Ok(format!(
        "its bundle checks offline: {entries} of the ledger's {} entries, {} signatures, {}",
        shown["size"],
        shown["signatures"],
        shown["state"].as_str().unwrap_or_default()
    ))
}

fn output(mut command: Command) -> anyhow::Result<Vec<u8>> {
    let output = command.stderr(Stdio::inherit()).output().context("running countersign")?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stdout));
    Ok(output.stdout)
}
