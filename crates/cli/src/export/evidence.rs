//! `countersign export evidence`: a range of the ledger as a file.

use std::{path::PathBuf, process::ExitCode};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use countersign_app::export::evidence::{EvidenceFormat, ExportEvidence, export};

use crate::{Connections, args::moment, output::show};

/// The range, format and file of an export.
#[derive(Args)]
#[command(
    after_help = "Times are RFC 3339, or how long ago: 30m, 24h, 7days. What counts is when an entry was recorded, so a time range\n\
    is a range of indexes. FILE.manifest.json, beside FILE, holds range, count, checkpoint, and the SHA-256 of FILE. Its\n\
    `to` is where the range really ends, at the latest just after the newest entry: begin the next export there."
)]
pub(crate) struct EvidenceArgs {
    /// Export entries recorded since then
    #[arg(long, default_value = "24h", value_parser = moment, value_name = "TIME")]
    from: DateTime<Utc>,
    /// Export entries recorded before then
    #[arg(long, default_value = "0s", value_parser = moment, value_name = "TIME")]
    to: DateTime<Utc>,
    /// cloudevents: one event a line. csv: one row an entry
    #[arg(long, value_enum, default_value_t = Format::Cloudevents)]
    format: Format,
    /// The file to write; it must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Cloudevents,
    Csv,
}

pub(super) async fn run(to: &Connections, args: EvidenceArgs) -> anyhow::Result<ExitCode> {
    let format = match args.format {
        Format::Cloudevents => EvidenceFormat::CloudEvents,
        Format::Csv => EvidenceFormat::Csv,
    };
    let request = ExportEvidence { from: args.from, to: args.to, format, out: args.out };
    let manifest = export(&to.app(), &request).await?;
    show(to, &manifest, || format!("{} entries are in {}", manifest.count, request.out.display()))
}
