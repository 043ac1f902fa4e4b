//! `countersign report`: the trade-off between approval and audit, measured.

mod comparison;
mod reviewers;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use countersign_app::report::{
    MeasureReport, Report,
    explanation::{Explanation, explain},
    report,
};
use serde::Serialize;

use crate::{
    Connections,
    args::moment,
    output::show,
    table::{at_most, explained, render},
};

/// A time range.
#[derive(Args)]
#[command(
    after_help = "Times are RFC 3339, or how long ago: 30m, 24h, 7days.",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct ReportArgs {
    #[command(subcommand)]
    command: Option<ReportCommand>,
    /// Measure actions accepted since then
    #[arg(long, default_value = "24h", value_parser = moment, value_name = "TIME")]
    from: DateTime<Utc>,
    /// Measure actions accepted before then
    #[arg(long, default_value = "0s", value_parser = moment, value_name = "TIME")]
    to: DateTime<Utc>,
    /// Say in a sentence how many errors nobody has found, at most, whenever you look
    #[arg(long)]
    at_most: bool,
    /// Show how each figure follows from counts: formulas with their sources, and the cells of one inclusion probability
    #[arg(long, conflicts_with = "at_most")]
    explain: bool,
}

#[derive(Subcommand)]
enum ReportCommand {
    /// Does an agent do otherwise than before? Compares each agent, tool and stratum with itself earlier
    Drift(comparison::DriftArgs),
    /// Do groups fare alike? Compares groups of actions with one of them
    Fairness(comparison::FairnessArgs),
    /// How do reviewers decide? What audits find of it, beside their peers, and how long they take
    Reviewers(reviewers::ReviewersArgs),
}

/// A report with the derivation of its figures.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    report: &'a Report,
    explanation: &'a Explanation,
}

pub(crate) async fn run(to: &Connections, args: ReportArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(ReportCommand::Drift(args)) => return comparison::drift(to, args).await,
        Some(ReportCommand::Fairness(args)) => return comparison::fairness(to, args).await,
        Some(ReportCommand::Reviewers(args)) => return reviewers::run(to, args).await,
        None => {}
    }
    let report = report(&to.app(), MeasureReport { from: args.from, to: args.to }).await?;
    if args.explain {
        let explanation = explain(&report);
        return show(to, &Explained { report: &report, explanation: &explanation }, || {
            explained(&report, &explanation)
        });
    }
    show(to, &report, || if args.at_most { at_most(&report) } else { render(&report) })
}
