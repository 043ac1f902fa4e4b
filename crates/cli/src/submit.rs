//! `countersign submit`: proposes actions as an agent.

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
    session::Session,
    topology::{ACTIONS, outcomes_queue},
};
use countersign_core::{
    action::Outcome,
    message::{CloudEvent, OutcomeData},
};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use lapin::{
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use serde_json::Value;

use crate::{Connections, args::UsageError, output::table, proposal};

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
    let waiting = match args.wait {
        true => Some(Session::open(url, "countersign-cli:outcomes").await?),
        false => None,
    };
    let publisher = Publisher::connect(url, "countersign-cli:submit").await?;
    let bar = bar(messages.len(), "submitted");
    for window in messages.chunks(WINDOW) {
        publisher.publish(window).await?;
        bar.inc(window.len() as u64);
    }
    bar.finish_and_clear();
    let Some(session) = waiting else {
        println!("{} submitted", messages.len());
        return Ok(ExitCode::SUCCESS);
    };
    let agent = source.rsplit('/').next().unwrap_or_default();
    let ids = messages.into_iter().map(|message| message.message_id).collect();
    let outcomes = wait(&session, agent, ids, args.timeout).await?;
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

/// Outcomes by id; one that stays in doubt or unheard of is waited for until `timeout` passes in silence.
async fn wait(
    session: &Session,
    agent: &str,
    mut open: HashSet<String>,
    timeout: Duration,
) -> anyhow::Result<Outcomes> {
    let queue = outcomes_queue(agent);
    session.channel.basic_qos(WINDOW as u16, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = session
        .channel
        .basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default())
        .await?;
    let bar = bar(open.len(), "answered");
    let mut heard = HashMap::new();
    while !open.is_empty() {
        let Ok(next) = tokio::time::timeout(timeout, consumer.next()).await else { break };
        let delivery = next.with_context(|| format!("{queue} was closed"))??;
        delivery.ack(BasicAckOptions::default()).await?;
        let Ok(event) = serde_json::from_slice::<CloudEvent<OutcomeData>>(&delivery.data) else { continue };
        let id = event.data.action.id.clone();
        if event.data.outcome != Outcome::InDoubt && open.remove(&id) {
            bar.inc(1);
        }
        heard.insert(id, event.data);
    }
    bar.finish_and_clear();
    heard.retain(|id, data| data.outcome == Outcome::InDoubt || !open.contains(id));
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
        eprintln!("{} without a final outcome yet", outcomes.unanswered);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
