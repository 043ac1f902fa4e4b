//! `countersign submit`: proposes actions as an agent.

use countersign_app::proposal;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    reader::Reader,
    topology::{ACTIONS, outcomes_queue},
};
use countersign_core::message::OutcomeData;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    Connections,
    args::UsageError,
    output::{show, table},
};

/// Proposes actions.
#[derive(Args)]
#[command(after_help = "\
--amqp-url is the agent's own. Each line is a proposal event, a proposal's data, or a recorded call.\n\
Sending the same line again is safe: it is answered with the stored outcome and executed once.")]
pub(crate) struct SubmitArgs {
    /// One action a line
    file: PathBuf,
    /// Wait for the outcomes
    #[arg(long)]
    wait: bool,
    /// How long to wait without hearing anything
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Most messages between two waits for confirms.
const WINDOW: usize = 256;

pub(crate) async fn run(to: &Connections, args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let text = fs::read_to_string(&args.file).with_context(|| format!("reading {}", args.file.display()))?;
    let (messages, source) = messages(&text)?;
    let url = to.amqp()?;
    let agent = source.rsplit('/').next().unwrap_or_default();
    let outcomes = match args.wait {
        true => Some(Reader::open(url, "countersign-cli:outcomes", &outcomes_queue(agent)).await?),
        false => None,
    };
    let publisher = Publisher::connect(url, "countersign-cli:submit").await?;
    let bar = bar(messages.len(), "submitted");
    for window in messages.chunks(WINDOW) {
        publisher.publish(window).await?;
        bar.inc(window.len() as u64);
    }
    bar.finish_and_clear();
    let Some(outcomes) = outcomes else {
        let submitted = messages.len();
        return show(to, &json!({"submitted": submitted}), || format!("{submitted} submitted"));
    };
    let ids = messages.into_iter().map(|message| message.message_id).collect();
    let outcomes = wait(outcomes, ids, args.timeout).await?;
    print(to, &outcomes)
}

/// The proposals, and their common source.
fn messages(text: &str) -> anyhow::Result<(Vec<Outgoing>, String)> {
    let mut messages = Vec::new();
    let mut sources = HashSet::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = |message: String| UsageError(format!("line {}: {message}", number + 1));
        let line: Value = serde_json::from_str(line).map_err(|error| at(error.to_string()))?;
        let event = proposal::event(&line).map_err(at)?;
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        sources.insert(text("/source"));
        messages.push(Outgoing {
            exchange: ACTIONS,
            routing_key: text("/data/tool"),
            message_id: text("/id"),
            body: event.to_string().into_bytes(),
        });
    }
    let mut sources = sources.into_iter();
    match (sources.next(), sources.next()) {
        (Some(source), None) => Ok((messages, source)),
        (None, _) => Err(UsageError("the file holds no actions".into()).into()),
        _ => {
            Err(UsageError("the file holds actions of several agents; submit each agent's own".into()).into())
        }
    }
}

fn bar(length: usize, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// Outcomes by id, until all are there or `timeout` passes in silence.
async fn wait(
    mut outcomes: Reader,
    mut open: HashSet<String>,
    timeout: Duration,
) -> anyhow::Result<Outcomes> {
    let bar = bar(open.len(), "answered");
    let mut heard = HashMap::new();
    while !open.is_empty() {
        let Some(event) = outcomes.next::<OutcomeData>(timeout).await? else { break };
        // The queue may hold answers to what was submitted before.
        if open.remove(&event.data.action.id) {
            bar.inc(1);
            heard.insert(event.data.action.id.clone(), event.data);
        }
    }
    bar.finish_and_clear();
    Ok(Outcomes { heard, unanswered: open.len() })
}

struct Outcomes {
    heard: HashMap<String, OutcomeData>,
    unanswered: usize,
}

fn print(to: &Connections, outcomes: &Outcomes) -> anyhow::Result<ExitCode> {
    if to.json {
        for data in outcomes.heard.values() {
            println!("{}", serde_json::to_string(data)?);
        }
    } else {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for data in outcomes.heard.values() {
            let outcome = serde_json::to_value(data.outcome)?;
            *counts.entry(outcome.as_str().unwrap_or_default().into()).or_default() += 1;
        }
        let mut table = table(["outcome", "actions"]);
        for (outcome, count) in counts {
            table.add_row([outcome, count.to_string()]);
        }
        println!("{table}");
    }
    if outcomes.unanswered > 0 {
        eprintln!("{} without an outcome yet", outcomes.unanswered);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
