//! `countersign export`: what is stored, as files.

mod evidence;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Connections;

/// Exports.
#[derive(Subcommand)]
pub(crate) enum ExportCommand {
    /// The ledger's entries, with a manifest
    Evidence(evidence::EvidenceArgs),
}

pub(crate) async fn run(to: &Connections, command: ExportCommand) -> anyhow::Result<ExitCode> {
    match command {
        ExportCommand::Evidence(args) => evidence::run(to, args).await,
    }
}
