//! `countersign export`: what is stored, for the programs of others.

mod feedback;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Connections;

/// Exports.
#[derive(Subcommand)]
pub(crate) enum ExportCommand {
    /// What humans have taught, as training data for the agents
    Feedback(feedback::FeedbackArgs),
}

pub(crate) async fn run(to: &Connections, command: ExportCommand) -> anyhow::Result<ExitCode> {
    match command {
        ExportCommand::Feedback(args) => feedback::run(to, args).await,
    }
}
