//! `countersign export`: stored evidence and feedback as files for other programs.

mod evidence;
mod feedback;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Connections;

/// Exports.
#[derive(Subcommand)]
pub(crate) enum ExportCommand {
    /// Export feedback from reviewers and auditors, as training data for the agents
    Feedback(feedback::FeedbackArgs),
    /// Export the ledger's entries, with a manifest
    Evidence(evidence::EvidenceArgs),
}

pub(crate) async fn run(to: &Connections, command: ExportCommand) -> anyhow::Result<ExitCode> {
    match command {
        ExportCommand::Feedback(args) => feedback::run(to, args).await,
        ExportCommand::Evidence(args) => evidence::run(to, args).await,
    }
}
