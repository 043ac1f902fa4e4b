//! `countersign export feedback`: training data from decisions and findings.

use std::{fmt::Write as _, io, path::PathBuf, process::ExitCode};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use countersign_app::export::feedback::{
    Destination, ExportFeedback, FeedbackFormat, Sides, Summary, export,
};

use crate::{Connections, args::moment};

/// What a trainer reads (Hugging Face TRL, "Dataset formats and types").
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Preference: prompt, chosen, rejected
    Dpo,
    /// Unpaired preference: prompt, completion, label
    Kto,
    /// Prompt-completion: prompt, completion
    Sft,
    /// Feedback as it is published to the agents
    Jsonl,
}

/// The range and format of an export.
#[derive(Args)]
#[command(after_help = "Times are RFC 3339, or how long ago: 30m, 24h, 7days.\n\
    Every line has a weight: 1/π if it comes from an audit that was drawn with probability π, otherwise 1.\n\
    All lines about one customer are on the same side of train and test.")]
pub(crate) struct FeedbackArgs {
    /// What the trainer reads
    #[arg(long, value_enum)]
    format: Format,
    /// Export feedback on actions accepted since then; without it, on all
    #[arg(long, value_parser = moment, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Export feedback on actions accepted before then
    #[arg(long, default_value = "0s", value_parser = moment, value_name = "TIME")]
    to: DateTime<Utc>,
    /// Write train.jsonl and test.jsonl into this folder instead of everything to standard output
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The share of customers to keep for testing, 0 to 1
    #[arg(long, default_value = "0.1", value_parser = share, value_name = "SHARE")]
    test: f64,
    /// Where the proposal names the customer, as a JSON pointer; where there is nothing, the agent's id stands for it
    #[arg(long, default_value = "/data/agent/on_behalf_of", value_name = "POINTER")]
    customer: String,
}

/// A share, 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is between 0 and 1".into()) }
}

pub(crate) async fn run(to: &Connections, args: FeedbackArgs) -> anyhow::Result<ExitCode> {
    let format = match args.format {
        Format::Dpo => FeedbackFormat::Dpo,
        Format::Kto => FeedbackFormat::Kto,
        Format::Sft => FeedbackFormat::Sft,
        Format::Jsonl => FeedbackFormat::Jsonl,
    };
    let request =
        ExportFeedback { format, from: args.from, to: args.to, test: args.test, customer: args.customer };
    let destination = match args.out {
        Some(dir) => Destination::Folder(dir),
        None => Destination::Stream(Box::new(io::stdout())),
    };
    let summary = export(&to.app(), &request, destination).await?;
    // The lines may be on standard output.
    eprintln!("{}", if to.json { serde_json::to_string_pretty(&summary)? } else { text(&summary) });
    Ok(ExitCode::SUCCESS)
}

fn text(summary: &Summary) -> String {
    let sum = |pick: fn(&Sides) -> u64| summary.lines.values().map(pick).sum::<u64>();
    let (train, test) = (sum(|sides| sides.train), sum(|sides| sides.test));
    let mut text =
        format!("{} lines of {} actions: {train} to train, {test} to test", train + test, summary.actions);
    // Writing into a String cannot fail.
    for (source, Sides { train, test }) in &summary.lines {
        let _ = write!(text, "\n  {}: {train} to train, {test} to test", source.as_str());
    }
    for (count, what) in [
        (summary.erased, "actions left out, their payloads are erased"),
        (summary.overturned, "rejections left out, an auditor found them wrong"),
        (summary.without_task, "actions state neither task nor reason nor context"),
    ] {
        if count > 0 {
            let _ = write!(text, "\n  {count} {what}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_between_nothing_and_all() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert!(
            share("1.5").is_err() && share("-0.1").is_err() && share("nan").is_err() && share("x").is_err()
        );
    }
}
