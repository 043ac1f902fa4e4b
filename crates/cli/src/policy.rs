//! `countersign policy`: check, explain, test.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chrono::Utc;
use clap::Subcommand;
use countersign_policy::{CaseResult, Facts, run_cases};
use serde_json::{Value, json};

use crate::{
    Connections,
    args::{UsageError, usage},
    folder::{self, Folder},
    output::show,
    proposal,
};

/// Policy.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check a folder; exit code 64 and every problem with file and line if it is not in order
    Check {
        /// The folder
        dir: PathBuf,
    },
    /// Say which rule decides an action, and why the others don't
    Explain {
        /// The folder
        #[arg(long, value_name = "DIR")]
        policy: PathBuf,
        /// The action: a proposal event, its data, or a line of recorded actions
        action: PathBuf,
    },
    /// Run the cases of policy_test.yaml beside the policy
    Test {
        /// The folder
        dir: PathBuf,
    },
}

pub(crate) fn run(to: &Connections, command: PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check { dir } => {
            let folder = Folder::read(&dir)?;
            let version = folder.configuration.policy.version();
            let value = json!({"in_order": true, "policy_version": version});
            show(to, &value, || format!("{} is in order: policy {version:?}", dir.display()))
        }
        PolicyCommand::Explain { policy, action } => explain(to, &Folder::read(&policy)?, &action),
        PolicyCommand::Test { dir } => test(to, &dir),
    }
}

fn explain(to: &Connections, folder: &Folder, path: &PathBuf) -> anyhow::Result<ExitCode> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let line: Value = serde_json::from_str(&text).map_err(|error| UsageError(error.to_string()))?;
    let event = proposal::event(&line).map_err(UsageError)?;
    let mut action = event["data"].clone();
    action["source"] = event["source"].clone();
    action["id"] = event["id"].clone();
    let name = action["tool"].as_str().unwrap_or_default();
    let tool = folder
        .configuration
        .tools
        .get(name)
        .ok_or_else(|| usage(format!("there is no tool {name:?} in tools.yaml: it would be denied")))?;
    if let Err(complaint) = tool.check_arguments(&action["arguments"]) {
        return Err(usage(format!("it would be denied before policy is asked: {complaint}")));
    }
    let facts = Facts { action: &action, agent: &action["agent"], tool, now: Utc::now() };
    let explanation = folder.configuration.policy.explain(&facts);
    show(to, &explanation, || explanation.to_string())
}

fn test(to: &Connections, dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    let folder = Folder::read(dir)?;
    let path = dir.join("policy_test.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let results = run_cases(&folder.configuration, &text).map_err(folder::problems)?;
    let failed = results.iter().filter(|result| !result.passed).count();
    show(to, &results, || {
        let mut lines: Vec<String> = results.iter().map(line).collect();
        lines.push(format!("{} passed, {failed} failed", results.len() - failed));
        lines.join("\n")
    })?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One case for people: what was expected and what came, where they differ.
fn line(result: &CaseResult) -> String {
    if result.passed {
        return format!("ok      {}", result.name);
    }
    let (verdict, rule) = &result.expected;
    let got = match &result.got {
        Some((verdict, rule)) => format!("{} by {rule}", verdict.as_str()),
        None => "no verdict".into(),
    };
    let name = &result.name;
    format!(
        "FAILED  {name} (line {}): expected {} by {rule}, got {got}: {}",
        result.line,
        verdict.as_str(),
        result.message
    )
}
