//! The command line as people use it.

use anyhow::{Context as _, ensure};
use countersign_tests::{Gate, config};
use serde_json::Value;

#[tokio::test]
async fn a_day_at_the_command_line() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("actions.jsonl").display().to_string();
    let line = |seq: u32, tool: &str, arguments: &str| {
        format!(
            r#"{{"agent":"one","model":"m","task":1,"trial":0,"seq":{seq},"tool":"{tool}","arguments":{arguments},"correct":false}}"#
        )
    };
    let lines = [
        line(0, "write_record", r#"{"n":1}"#),
        line(1, "no_such", "{}"),
        line(2, "move_money", r#"{"amount":"500"}"#),
    ];
    std::fs::write(&file, lines[..2].join("\n"))?;
    let (agent, sam) =
        (gate.system.url("agent-one")?.to_owned(), gate.system.url("reviewer-sam")?.to_owned());
    let key = gate.system.key_file("sam").display().to_string();
    let ada = gate.system.url("auditor-ada")?.to_owned();
    let (output, ok) = gate.cli_as(&agent, &["submit", &file, "--wait"]).await?;
    ensure!(ok && output.contains("succeeded") && output.contains("denied"), "{output}");
    std::fs::write(&file, &lines[2])?;
    let (output, ok) = gate.cli_as(&agent, &["submit", &file]).await?;
    ensure!(ok && output.contains("1 submitted"), "{output}");
    gate.reaches("SELECT count(*) FROM approvals", 1).await?;

    let (output, _) = gate.cli(&["approvals", "list", "--json"]).await?;
    let open: Vec<Value> = serde_json::from_str(&output)?;
    let id = open[0]["id"].as_str().context("an id")?.to_owned();
    let (output, ok) = gate.cli(&["approvals", "show", &id]).await?;
    ensure!(ok && output.contains("500") && output.contains("sha256:"), "{output}");
    let (output, ok) = gate.cli_as(&sam, &["approvals", "approve", &id, "--key", &key]).await?;
    ensure!(ok && output.contains("approve"), "{output}");
    let reject = ["approvals", "reject", &id, "--reason", "too late", "--key", &key];
    let (output, ok) = gate.cli_as(&sam, &reject).await?;
    ensure!(!ok && output.contains("not_open"), "{output}");

    gate.reaches("SELECT count(*) FROM sampling", 2).await?;
    let (output, ok) = gate.cli(&["actions", "show", "task-1-0-2"]).await?;
    for step in
        ["action.evaluated", "decision.recorded", "action.claimed", "action.completed", "action.sampled"]
    {
        ensure!(ok && output.contains(step), "{step} in {output}");
    }
    let (output, ok) = gate.cli(&["actions", "list", "--state", "denied", "--json"]).await?;
    ensure!(ok && serde_json::from_str::<Vec<Value>>(&output)?.len() == 1, "{output}");
    let (output, ok) = gate.cli(&["report", "--json"]).await?;
    let report: Value = serde_json::from_str(&output)?;
    ensure!(ok && report["lines"].as_array().context("lines")?.len() >= 4, "{output}");
    let (output, ok) = gate.cli(&["report"]).await?;
    ensure!(ok && output.contains("PRE-EXECUTION APPROVAL"), "{output}");
    let (output, ok) = gate.cli_as(&ada, &["audits", "list", "--state", "all"]).await?;
    ensure!(ok, "{output}");
    gate.close().await
}

#[tokio::test]
async fn a_bad_folder_is_refused_with_file_line_and_help_before_anything_connects() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    for name in ["policy.yaml", "tools.yaml", "directory.yaml"] {
        let text = std::fs::read_to_string(config().join(name))?;
        std::fs::write(dir.path().join(name), text.replace("group: approvers", "group: aprovers"))?;
    }
    let output = std::process::Command::new(countersign_testkit::system::binary()?)
        .args(["policy", "check"])
        .arg(dir.path())
        .env("TEST_TOOLS_URL", "http://127.0.0.1:1")
        .output()?;
    let problems = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(64), "{problems}");
    ensure!(problems.contains("policy.yaml:") && problems.contains("aprovers"), "{problems}");
    Ok(())
}
