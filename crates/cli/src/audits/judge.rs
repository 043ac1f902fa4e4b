//! `countersign audits judge`: an auditor's finding, signed.

use countersign_app::apply::active;
use std::{path::PathBuf, process::ExitCode};

use chrono::Utc;
use clap::{Args, ValueEnum};
use countersign_app::audits;
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    session::user_of,
    topology::FINDINGS,
};
use countersign_core::{
    ids::AuditId,
    message::{CloudEvent, Finding, FindingData, Resolution, Severity, kind},
    signed::Signer,
};
use countersign_runtime::keys;
use uuid::Uuid;

use crate::{
    Connections,
    approvals::heard,
    args::{UsageError, usage},
    output::show,
};

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
    fn finding(&self, digest: &str) -> anyhow::Result<FindingData> {
        let correction = self.correction.as_ref().map(|text| serde_json::from_str(text)).transpose();
        let correction =
            correction.map_err(|error| UsageError(format!("--correction is not JSON: {error}")))?;
        let finding = match self.finding {
            FindingArg::Correct => Finding::Correct,
            FindingArg::Wrong => Finding::Wrong,
            FindingArg::Unsure => Finding::Unsure,
        };
        Ok(FindingData {
            severity: self.severity.map(|severity| match severity {
                SeverityArg::Minor => Severity::Minor,
                SeverityArg::Major => Severity::Major,
                SeverityArg::Critical => Severity::Critical,
            }),
            reason_code: self.reason_code.clone(),
            reason: self.reason.clone(),
            correction,
            resolution: self.resolution.map(|resolution| match resolution {
                ResolutionArg::Succeeded => Resolution::Succeeded,
                ResolutionArg::Failed => Resolution::Failed,
            }),
            compensate: self.compensate,
            ..FindingData::new(self.id, digest, finding)
        })
    }
}

pub(super) async fn run(to: &Connections, args: JudgeArgs) -> anyhow::Result<ExitCode> {
    let store = to.store()?;
    let data = args.finding(&audits::show(&store, args.id).await?.digest)?;
    let url = to.amqp()?;
    let user = user_of(url).unwrap_or_default();
    let directory = active(&store).await?;
    let auditor = directory.directory.auditor_of_user(&user);
    let auditor = auditor
        .ok_or_else(|| usage(format!("the AMQP user {user:?} is no auditor of the active directory")))?;
    let signer = Signer::new(&auditor.id, keys::signing_key(&args.key)?);
    let signed = signer.sign(&[data], Uuid::now_v7(), Utc::now(), rand::random)?;
    let source = format!("/auditors/{}", auditor.id);
    let event = CloudEvent::new(Outgoing::fresh_id(), &source, kind::AUDIT_FINDING, Utc::now(), signed);
    let publisher = Publisher::connect(url, "countersign-cli:judge").await?;
    publisher.publish(&[Outgoing::event(FINDINGS, "finding", &event)]).await?;
    let action = audits::action_of(&store, args.id).await?;
    let answer = heard(&store, action, &event.id).await?;
    let applied = answer["kind"] != "finding.refused";
    show(to, &answer, || match applied {
        true => format!("judged {}", answer["finding"].as_str().unwrap_or("?")),
        false => format!("refused ({}): {}", answer["code"].as_str().unwrap_or("?"), answer["message"]),
    })?;
    Ok(if applied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
