//! Submitting proposals from a file as their agent, and waiting for the outcomes.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use countersign_broker::{
    publisher::{Outgoing, Publisher},
    reader::Reader,
    topology::{actions_exchange, outcomes_queue},
};
pub use countersign_core::message::OutcomeData;
use serde::Serialize;
use serde_json::Value;

use crate::{AppError, Connections, proposal};

/// Proposals to be submitted, whose outcomes are waited for.
#[derive(Clone, Debug)]
pub struct SubmitAndWait {
    /// One action a line; all of one agent.
    pub file: PathBuf,
    /// How long to wait without receiving an outcome.
    pub silence: Duration,
}

/// What was submitted.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Submitted {
    /// How many proposals.
    pub submitted: usize,
}

/// The outcomes of the submitted actions.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// The outcomes, in order of arrival.
    pub outcomes: Vec<OutcomeData>,
    /// How many actions have no outcome yet.
    pub unanswered: usize,
}

/// The progress of a step.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The step.
    pub step: Step,
    /// How many actions have completed it.
    pub done: usize,
    /// How many actions there are.
    pub total: usize,
}

/// A step of submitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Proposals are confirmed by the broker.
    Submit,
    /// Outcomes are received.
    Answer,
}

/// Most messages between two waits for confirms.
const WINDOW: usize = 256;

/// Submits the proposals of a file, one action a line, all of one agent.
///
/// # Errors
/// Where the file cannot be read or does not hold proposals of one agent, or the broker refuses.
pub async fn submit(
    connections: &Connections,
    file: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<Submitted, AppError> {
    let batch = Batch::read(file)?;
    batch.publish(connections.amqp()?, &mut progress).await?;
    Ok(Submitted { submitted: batch.messages.len() })
}

/// Submits the proposals of a file, and waits until all are answered or no outcome comes for as long as asked.
///
/// # Errors
/// Where the file cannot be read or does not hold proposals of one agent, or the broker refuses.
pub async fn submit_and_wait(
    connections: &Connections,
    request: &SubmitAndWait,
    mut progress: impl FnMut(Progress),
) -> Result<Outcomes, AppError> {
    let batch = Batch::read(&request.file)?;
    let url = connections.amqp()?;
    let agent = agent_of(&batch.source).map_err(AppError::Usage)?;
    let outcomes = Reader::open(url, "countersign-app:outcomes", &outcomes_queue(agent)).await?;
    batch.publish(url, &mut progress).await?;
    let ids = batch.messages.into_iter().map(|message| message.message_id).collect();
    wait(outcomes, ids, request.silence, &mut progress).await
}

/// The proposals of a file.
struct Batch {
    messages: Vec<Outgoing>,
    /// Their common source.
    source: String,
}

impl Batch {
    fn read(file: &Path) -> Result<Self, AppError> {
        Self::parse(&fs::read_to_string(file).map_err(AppError::file("reading", file))?)
    }

    fn parse(text: &str) -> Result<Self, AppError> {
        let mut messages = Vec::new();
        let mut sources = HashSet::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let at = |message: String| AppError::Usage(format!("line {}: {message}", number + 1));
            let line: Value = serde_json::from_str(line).map_err(|error| at(error.to_string()))?;
            let event = proposal::event(&line).map_err(at)?;
            let text =
                |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let source = text("/source");
            let agent = agent_of(&source).map_err(at)?;
            messages.push(Outgoing {
                exchange: actions_exchange(agent).into(),
                routing_key: text("/data/tool"),
                message_id: text("/id"),
                body: event.to_string().into_bytes(),
            });
            sources.insert(source);
        }
        let mut sources = sources.into_iter();
        match (sources.next(), sources.next()) {
            (Some(source), None) => Ok(Self { messages, source }),
            (None, _) => Err(AppError::Usage("the file holds no actions".into())),
            _ => Err(AppError::Usage(
                "the file holds actions of several agents; submit each agent's own".into(),
            )),
        }
    }

    async fn publish(&self, url: &str, progress: &mut impl FnMut(Progress)) -> Result<(), AppError> {
        let publisher = Publisher::connect(url, "countersign-app:submit").await?;
        let mut at = Progress { step: Step::Submit, done: 0, total: self.messages.len() };
        for window in self.messages.chunks(WINDOW) {
            publisher.publish(window).await?;
            at.done += window.len();
            progress(at);
        }
        Ok(())
    }
}

/// The agent that a source names.
fn agent_of(source: &str) -> Result<&str, String> {
    let agent = source.strip_prefix("/agents/").filter(|agent| !agent.is_empty() && !agent.contains('/'));
    agent.ok_or_else(|| format!("its source is {source:?}, and must be /agents/<id of the agent>"))
}

/// Receives outcomes until none of `open` is left, or `silence` passes without any.
async fn wait(
    mut outcomes: Reader,
    mut open: HashSet<String>,
    silence: Duration,
    progress: &mut impl FnMut(Progress),
) -> Result<Outcomes, AppError> {
    let mut at = Progress { step: Step::Answer, done: 0, total: open.len() };
    progress(at);
    let mut received = Vec::new();
    while !open.is_empty() {
        let Some(event) = outcomes.next::<OutcomeData>(silence).await? else { break };
        // The queue may contain outcomes of earlier submissions.
        if open.remove(&event.data.action.id) {
            at.done += 1;
            progress(at);
            received.push(event.data);
        }
    }
    Ok(Outcomes { outcomes: received, unanswered: open.len() })
}
