//! `countersign audits`: what was sampled, and an auditor's finding.

mod prove;

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::Utc;
use clap::{Subcommand, ValueEnum};
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    session::user_of,
    topology::FINDINGS,
};
use countersign_core::{
    ids::AuditId,
    message::{CloudEvent, Finding, FindingData, Resolution, kind},
};
use countersign_store::{actions, audits, listing};
use serde_json::{Value, json};

use crate::{
    Connections,
    actions::content,
    approvals::heard,
    args::UsageError,
    output::{show, table},
};

/// Audits.
#[derive(Subcommand)]
pub(crate) enum AuditsCommand {
    /// What waits to be judged, the oldest first
    List {
        /// Only this group's
        #[arg(long)]
        group: Option<String>,
        /// open, judged or all
        #[arg(long, default_value = "open")]
        state: String,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Everything that there is to judge
    Show {
        /// The audit's id
        id: AuditId,
    },
    /// Throw the coin again: check every selection of the epochs that have closed
    #[command(
        after_help = "SHA-256 of an epoch's key became evidence when the epoch opened, the key itself after it closed.\n\
        With it every throw is made again: R, and whether R selects the action at its stored π."
    )]
    Prove {
        /// Only this epoch
        #[arg(long)]
        epoch: Option<i64>,
    },
    /// Judge, as the auditor whose --amqp-url it is
    Judge {
        /// The audit's id
        id: AuditId,
        /// What was found
        #[arg(long, value_enum)]
        finding: FindingArg,
        /// Why; mandatory for wrong
        #[arg(long)]
        reason: Option<String>,
        /// What the call should have been, as JSON
        #[arg(long, value_name = "JSON")]
        correction: Option<String>,
        /// What really happened; mandatory for an action in doubt
        #[arg(long, value_enum)]
        resolution: Option<ResolutionArg>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FindingArg {
    Correct,
    Wrong,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ResolutionArg {
    Succeeded,
    Failed,
}

pub(crate) async fn run(to: &Connections, command: AuditsCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditsCommand::List { group, state, limit } => {
            let mut client = to.store()?.client().await?;
            let tx = client.transaction().await?;
            let state = (state != "all").then_some(state);
            let list = listing::audits(&tx, group.as_deref(), state.as_deref(), limit).await?;
            show(to, &list, || {
                if list.is_empty() {
                    return "nothing waits".into();
                }
                let mut table = table(["audit", "action", "tool", "outcome", "group", "reason", "finding"]);
                for audit in &list {
                    table.add_row([
                        audit.id.to_string(),
                        audit.event_id.clone(),
                        audit.tool.clone(),
                        audit.outcome.clone(),
                        audit.group.clone(),
                        audit.reason.clone(),
                        audit.finding.clone().unwrap_or_default(),
                    ]);
                }
                table.to_string()
            })
        }
        AuditsCommand::Show { id } => {
            let shown = shown(to, id).await?;
            show(to, &shown, || serde_json::to_string_pretty(&shown).unwrap_or_default())
        }
        AuditsCommand::Prove { epoch } => prove::run(to, epoch).await,
        AuditsCommand::Judge { id, finding, reason, correction, resolution } => {
            let correction = correction
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(|error| UsageError(format!("--correction is not JSON: {error}")))?;
            let finding = match finding {
                FindingArg::Correct => Finding::Correct,
                FindingArg::Wrong => Finding::Wrong,
            };
            let resolution = resolution.map(|resolution| match resolution {
                ResolutionArg::Succeeded => Resolution::Succeeded,
                ResolutionArg::Failed => Resolution::Failed,
            });
            judge(to, FindingData { audit: id, finding, reason, correction, resolution }).await
        }
    }
}

async fn shown(to: &Connections, id: AuditId) -> anyhow::Result<Value> {
    let mut client = to.store()?.client().await?;
    let tx = client.transaction().await?;
    let found = audits::actions_of(&tx, &[id]).await?;
    let action = *found.first().with_context(|| format!("there is no audit {id}"))?;
    let record = actions::load(&tx, &[action], true).await?.pop().context("the action is gone")?;
    let outcome = record.outcome.as_ref();
    Ok(json!({
        "audit": id, "action": record.reference, "outcome": record.ruling.state, "rule": record.ruling.rule,
        "content": content(&record),
        "result": outcome.and_then(|outcome| outcome.result.as_deref())
            .and_then(|result| serde_json::from_slice::<Value>(result).ok()),
        "error": outcome.and_then(|outcome| outcome.error.clone()),
    }))
}

async fn judge(to: &Connections, data: FindingData) -> anyhow::Result<ExitCode> {
    let store = to.store()?;
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    let found = audits::actions_of(&tx, &[data.audit]).await?;
    tx.commit().await?;
    let action = *found.first().with_context(|| format!("there is no audit {}", data.audit))?;
    let url = to.amqp()?;
    let source = format!("/auditors/{}", user_of(url).unwrap_or_default());
    let event = CloudEvent::new(Outgoing::fresh_id(), &source, kind::AUDIT_FINDING, Utc::now(), data);
    let publisher = Publisher::connect(url, "countersign-cli:judge").await?;
    publisher.publish(&[Outgoing::event(FINDINGS, "finding", &event)]).await?;
    let answer = heard(&store, action, &event.id).await?;
    let applied = answer["kind"] != "finding.refused";
    show(to, &answer, || match applied {
        true => format!("judged {}", answer["finding"].as_str().unwrap_or("?")),
        false => format!("refused ({}): {}", answer["code"].as_str().unwrap_or("?"), answer["message"]),
    })?;
    Ok(if applied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
