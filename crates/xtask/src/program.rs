//! Runs programs.

use std::{process::Command, time::Duration};

use anyhow::Context as _;

/// Whether a program exists and succeeds with these arguments.
pub(crate) fn has(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Waits for a runner, which handles Ctrl-C itself, as it is in the same process group.
pub(crate) async fn finish(command: Command) -> anyhow::Result<bool> {
    let mut child =
        tokio::process::Command::from(command).kill_on_drop(true).spawn().context("running cargo")?;
    loop {
        match tokio::time::timeout(Duration::from_secs(60), child.wait()).await {
            Ok(status) => return Ok(status?.success()),
            Err(_) => continue,
        }
    }
}
