//! `countersign audits judge`: an auditor's finding, signed.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use countersign_app::findings::{self, Finding, Judge, Resolution, Severity};
use countersign_core::ids::AuditId;

use crate::{Connections, args::UsageError, output::show};

/// A finding.
#[derive(Args)]
#[command(after_help = "\
`audits show` tells what was executed, the reason codes there are, and whether it can be undone.\n\n\
Examples:\n  countersign audits judge ID --finding correct\n  \
countersign audits judge ID --finding wrong --severity major --reason 'another booking was meant' \\\n    \
--correction '{\"arguments\": {\"reservation_id\": \"4WQ150\"}}' --compensate")]
pub(crate) struct JudgeArgs {
    /// The audit's id
    id: AuditId,
    /// What was found; unsure asks another auditor
    #[arg(long, value_enum)]
    finding: FindingArg,
    /// How bad it is; mandatory for wrong
    #[arg(long, value_enum)]
    severity: Option<SeverityArg>,
    /// Why, as one of the policy's codes; mandatory for wrong where there are any
    #[arg(long, value_name = "CODE")]
    reason_code: Option<String>,
    /// Why, for people; mandatory for wrong where there are no codes
    #[arg(long)]
    reason: Option<String>,
    /// What the call should have been: `tool`, `arguments` or both; `{"tool": null}` for no call at all
    #[arg(long, value_name = "JSON")]
    correction: Option<String>,
    /// What really happened; mandatory for an action in doubt
    #[arg(long, value_enum)]
    resolution: Option<ResolutionArg>,
    /// Undo it: the compensation is proposed as an action of its own
    #[arg(long)]
    compensate: bool,
    /// Private key to sign with, as a JWK file, see `countersign keys signer`
    #[arg(long, value_name = "FILE", env = "AUDITOR_KEY")]
    key: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum FindingArg {
    Correct,
    Wrong,
    Unsure,
}

#[derive(Clone, Copy, ValueEnum)]
enum SeverityArg {
    Minor,
    Major,
    Critical,
}

#[derive(Clone, Copy, ValueEnum)]
enum ResolutionArg {
    Succeeded,
    Failed,
}

impl JudgeArgs {
    fn request(self) -> anyhow::Result<Judge> {
        let correction = self.correction.map(|text| serde_json::from_str(&text)).transpose();
        let correction =
            correction.map_err(|error| UsageError(format!("--correction is not JSON: {error}")))?;
        Ok(Judge {
            audit: self.id,
            finding: match self.finding {
                FindingArg::Correct => Finding::Correct,
                FindingArg::Wrong => Finding::Wrong,
                FindingArg::Unsure => Finding::Unsure,
            },
            severity: self.severity.map(|severity| match severity {
                SeverityArg::Minor => Severity::Minor,
                SeverityArg::Major => Severity::Major,
                SeverityArg::Critical => Severity::Critical,
            }),
            reason_code: self.reason_code,
            reason: self.reason,
            correction,
            resolution: self.resolution.map(|resolution| match resolution {
                ResolutionArg::Succeeded => Resolution::Succeeded,
                ResolutionArg::Failed => Resolution::Failed,
            }),
            compensate: self.compensate,
            key: self.key,
        })
    }
}

pub(super) async fn run(to: &Connections, args: JudgeArgs) -> anyhow::Result<ExitCode> {
    let answer = findings::judge(&to.app(), args.request()?).await?;
    show(to, &answer, || match answer.applied {
        true => format!("judged {}", answer.text("finding").unwrap_or("?")),
        false => {
            format!("refused ({}): {}", answer.text("code").unwrap_or("?"), answer.evidence["message"])
        }
    })?;
    Ok(if answer.applied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
