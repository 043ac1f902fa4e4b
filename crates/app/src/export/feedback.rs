//! Exports training data in TRL's formats, from decisions and findings.

mod format;
mod item;
mod line;
mod sink;
mod split;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use countersign_store::feedback::{self, FeedbackItem};
use serde::Serialize;

pub use self::{format::FeedbackFormat, item::Source, sink::Destination};
use self::{
    item::{Payload, examples, published},
    line::{Common, lines, plain},
    sink::Sink,
    split::{Split, customer, split},
};
use crate::{AppError, Connections};

/// Most actions that are read at once; each comes with its full message.
const PAGE: i64 = 100;

/// The range and format of an export.
#[derive(Clone, Debug)]
pub struct ExportFeedback {
    /// The form of the lines.
    pub format: FeedbackFormat,
    /// Actions accepted since then; absent: all.
    pub from: Option<DateTime<Utc>>,
    /// Actions accepted before then.
    pub to: DateTime<Utc>,
    /// The share of customers that is kept for testing, 0 to 1.
    pub test: f64,
    /// The JSON pointer to the customer in a proposal. Without a customer the agent's id is used instead.
    pub customer: String,
}

/// Lines on each side of the split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sides {
    /// For training.
    pub train: u64,
    /// Kept for testing.
    pub test: u64,
}

/// Counts of what was exported and what was left out.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The form of the lines.
    pub format: FeedbackFormat,
    /// Actions that a human has decided or judged.
    pub actions: u64,
    /// Lines by source.
    pub lines: BTreeMap<Source, Sides>,
    /// Left out: the payload is erased.
    pub erased: u64,
    /// Left out of training data: rejections that an auditor found wrong.
    pub overturned: u64,
    /// Written, but their proposals state neither a task nor a reason nor a context.
    pub without_task: u64,
}

impl Summary {
    fn add(&mut self, source: Source, side: Split) {
        let sides = self.lines.entry(source).or_default();
        match side {
            Split::Train => sides.train += 1,
            Split::Test => sides.test += 1,
        }
    }
}

/// Exports the feedback on actions of a time range. All lines about one customer are on the same side of train and test.
///
/// # Errors
/// Where the request is malformed, the output cannot be written, or the database cannot be read.
pub async fn export(
    connections: &Connections,
    request: &ExportFeedback,
    to: Destination,
) -> Result<Summary, AppError> {
    if !request.customer.starts_with('/') {
        let message = "the customer is a JSON pointer, such as /data/agent/on_behalf_of";
        return Err(AppError::Usage(message.into()));
    }
    let store = connections.store()?;
    let mut sink = Sink::open(to)?;
    let mut summary = Summary {
        format: request.format,
        actions: 0,
        lines: BTreeMap::new(),
        erased: 0,
        overturned: 0,
        without_task: 0,
    };
    let from = request.from.unwrap_or(DateTime::UNIX_EPOCH);
    let mut after = None;
    loop {
        // No transaction stays open while a slow reader consumes the lines.
        let tx = store.transaction().await?;
        let page = feedback::page(&tx, from, request.to, after, PAGE).await?;
        tx.commit().await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for item in &page {
            write(request, item, &mut sink, &mut summary)?;
        }
    }
    sink.close()?;
    Ok(summary)
}

/// Writes the lines of one action.
fn write(
    request: &ExportFeedback,
    item: &FeedbackItem,
    sink: &mut Sink,
    summary: &mut Summary,
) -> Result<(), AppError> {
    summary.actions += 1;
    let Some(payload) = Payload::of(item) else {
        summary.erased += 1;
        return Ok(());
    };
    let side = split(&customer(&payload.body, &request.customer, &item.agent), request.test);
    let common = Common::of(item, &payload, side);
    let mut written = false;
    if request.format == FeedbackFormat::Jsonl {
        for (source, data) in published(item, &payload) {
            let pi = item.pi.filter(|_| source == Source::Correction);
            sink.write(side, &plain(&common, &data, pi))?;
            summary.add(source, side);
        }
        return Ok(());
    }
    summary.overturned += u64::from(payload.overturned(item));
    for example in examples(item, &payload) {
        for line in lines(request.format, &common, &payload, &example)? {
            sink.write(side, &line)?;
            summary.add(example.source, side);
            written = true;
        }
    }
    summary.without_task += u64::from(written && line::task(&payload.body).is_none());
    Ok(())
}
