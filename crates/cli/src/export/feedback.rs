//! `countersign export feedback`: training data in the shapes of TRL, from what humans have decided and judged.

mod lesson;
mod line;
mod sink;
mod split;

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, process::ExitCode};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use countersign_store::lessons;
use serde::Serialize;

use self::{
    lesson::{Known, Source, published, taught},
    line::{Common, lines, plain},
    sink::Sink,
    split::{Split, customer, share, split},
};
use crate::{Connections, args::usage, report::moment};

/// Most actions that are read at once: each comes with its whole message.
const PAGE: i64 = 100;

/// What a trainer reads (Hugging Face TRL, "Dataset formats and types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// Preference: prompt, chosen, rejected
    Dpo,
    /// Unpaired preference: prompt, completion, label
    Kto,
    /// Prompt-completion: prompt, completion
    Sft,
    /// The lessons as they are published to the agents
    Jsonl,
}

/// What is exported, and how.
#[derive(Args)]
#[command(after_help = "Times are RFC 3339, or how long ago: 30m, 24h, 7days.\n\
    Every line has a weight: 1/π where the coin drew the audit that it comes from, else 1.\n\
    All lines about one customer are on the same side of train and test.")]
pub(crate) struct FeedbackArgs {
    /// What the trainer reads
    #[arg(long, value_enum)]
    format: Format,
    /// Actions accepted since then; without it, all
    #[arg(long, value_parser = moment, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Actions accepted before then
    #[arg(long, default_value = "0s", value_parser = moment, value_name = "TIME")]
    to: DateTime<Utc>,
    /// Write train.jsonl and test.jsonl into this folder instead of everything to standard output
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The share of customers that is kept for testing, 0 to 1
    #[arg(long, default_value = "0.1", value_parser = share, value_name = "SHARE")]
    test: f64,
    /// Where in the proposal the customer is, as a JSON pointer; where there is nothing, the agent's id stands for it
    #[arg(long, default_value = "/data/agent/on_behalf_of", value_name = "POINTER")]
    customer: String,
}

/// Lines on either side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Sides {
    train: u64,
    test: u64,
}

/// What was exported, and what was not.
#[derive(Debug, Serialize)]
struct Summary {
    format: Format,
    /// Actions that a human has decided or judged.
    actions: u64,
    /// Lines, by where they come from.
    lines: BTreeMap<Source, Sides>,
    /// Left out: the payload is erased.
    erased: u64,
    /// Left out of training data: rejections that an auditor found wrong.
    overturned: u64,
    /// Written, but their proposals state neither a task nor a reason nor a context.
    without_task: u64,
}

impl Summary {
    fn add(&mut self, source: Source, side: Split) {
        let sides = self.lines.entry(source).or_default();
        match side {
            Split::Train => sides.train += 1,
            Split::Test => sides.test += 1,
        }
    }

    fn text(&self) -> String {
        let sum = |pick: fn(&Sides) -> u64| self.lines.values().map(pick).sum::<u64>();
        let (train, test) = (sum(|sides| sides.train), sum(|sides| sides.test));
        let mut text =
            format!("{} lines of {} actions: {train} to train, {test} to test", train + test, self.actions);
        // Writing into a String cannot fail.
        for (source, Sides { train, test }) in &self.lines {
            let _ = write!(text, "\n  {}: {train} to train, {test} to test", source.as_str());
        }
        for (count, what) in [
            (self.erased, "actions left out, their payloads are erased"),
            (self.overturned, "rejections left out, an auditor found them wrong"),
            (self.without_task, "actions state neither task nor reason nor context"),
        ] {
            if count > 0 {
                let _ = write!(text, "\n  {count} {what}");
            }
        }
        text
    }
}

pub(crate) async fn run(to: &Connections, args: FeedbackArgs) -> anyhow::Result<ExitCode> {
    if !args.customer.starts_with('/') {
        return Err(usage("--customer is a JSON pointer, such as /data/agent/on_behalf_of"));
    }
    let store = to.store()?;
    let mut sink = Sink::open(args.out.as_deref())?;
    let mut summary = Summary {
        format: args.format,
        actions: 0,
        lines: BTreeMap::new(),
        erased: 0,
        overturned: 0,
        without_task: 0,
    };
    let from = args.from.unwrap_or(DateTime::UNIX_EPOCH);
    let mut after = None;
    loop {
        // No transaction stays open while a slow reader takes the lines.
        let tx = store.transaction().await?;
        let page = lessons::page(&tx, from, args.to, after, PAGE).await?;
        tx.commit().await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for heard in &page {
            export(&args, heard, &mut sink, &mut summary)?;
        }
    }
    sink.close()?;
    let told = if to.json { serde_json::to_string_pretty(&summary)? } else { summary.text() };
    eprintln!("{told}");
    Ok(ExitCode::SUCCESS)
}

/// Writes the lines of one action.
fn export(
    args: &FeedbackArgs,
    heard: &lessons::Heard,
    sink: &mut Sink,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    summary.actions += 1;
    let Some(known) = Known::of(heard) else {
        summary.erased += 1;
        return Ok(());
    };
    let side = split(&customer(&known.body, &args.customer, &heard.agent), args.test);
    let common = Common::of(heard, &known, side);
    let mut written = false;
    if args.format == Format::Jsonl {
        for (source, data) in published(heard, &known) {
            sink.write(side, &plain(&common, &data))?;
            summary.add(source, side);
        }
        return Ok(());
    }
    summary.overturned += u64::from(known.overturned(heard));
    for taught in taught(heard, &known) {
        for line in lines(args.format, &common, &known, &taught)? {
            sink.write(side, &line)?;
            summary.add(taught.source, side);
            written = true;
        }
    }
    summary.without_task += u64::from(written && line::task(&known.body).is_none());
    Ok(())
}
