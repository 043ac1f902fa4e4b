//! `countersign policy`: check, explain, test.

use countersign_app::{folder::Folder, proposal};
use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chrono::Utc;
use clap::Subcommand;
use countersign_app::policy::{self, CaseResult};
use serde_json::Value;

use crate::{Connections, args::UsageError, output::show};

/// Policy.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check a folder; if it has problems, print each with file and line, and exit with 64
    Check {
        /// The configuration folder
        dir: PathBuf,
    },
    /// Explain which rule decides an action, and why the others don't
    Explain {
        /// The configuration folder
        #[arg(long, value_name = "DIR")]
        policy: PathBuf,
        /// The action: a proposal event, its data, or a line of recorded actions
        action: PathBuf,
    },
    /// Run the cases of policy_test.yaml beside the policy
    Test {
        /// The configuration folder
        dir: PathBuf,
    },
}

pub(crate) fn run(to: &Connections, command: PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check { dir } => {
            let folder = Folder::read(&dir)?;
            let checked = policy::check(&folder.configuration);
            show(to, &checked, || {
                let mut text = format!("{} is in order: policy {:?}", dir.display(), checked.policy_version);
                for warning in &checked.warnings {
                    text += &format!("\nwarning: {warning}");
                }
                text
            })
        }
        PolicyCommand::Explain { policy, action } => explain(to, &Folder::read(&policy)?, &action),
        PolicyCommand::Test { dir } => test(to, &dir),
    }
}

fn explain(to: &Connections, folder: &Folder, path: &PathBuf) -> anyhow::Result<ExitCode> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let line: Value = serde_json::from_str(&text).map_err(|error| UsageError(error.to_string()))?;
    let event = proposal::event(&line).map_err(UsageError)?;
    let explanation = policy::explain(&folder.configuration, &event, Utc::now())?;
    show(to, &explanation, || explanation.to_string())
}

fn test(to: &Connections, dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    let folder = Folder::read(dir)?;
    let path = dir.join("policy_test.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let results = policy::test(&folder.configuration, &text)?;
    let failed = results.iter().filter(|result| !result.passed).count();
    show(to, &results, || {
        let mut lines: Vec<String> = results.iter().map(line).collect();
        lines.push(format!("{} passed, {failed} failed", results.len() - failed));
        lines.join("\n")
    })?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One case as text, with expected and actual verdict if they differ.
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
