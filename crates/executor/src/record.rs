//! The recorder of results: second commit, the answer to the agent, then the sampler.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use countersign_broker::{
    BrokerError, crash,
    publisher::{Outgoing, Publisher},
};
use countersign_core::{
    action::State,
    evidence::{ActionCompleted, Event},
    ids::ActionId,
    transition::Completion,
};
use countersign_runtime::{messages, process::Process};
use countersign_store::{
    Pipeline, StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    evidence::Evidence,
    outcomes::{self, Ended, LateResult, NewOutcome},
};
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver};

use crate::call::{CallCompletion, LATE, Settled};

/// Most results at a time.
const BATCH: usize = 256;

#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Batches that are stored and not told yet; more are not taken from the calls until some are.
const UNTOLD: usize = 4;

/// Records and answers until every lane and every call has ended. While one batch is being told, the next is stored.
pub(crate) async fn run(process: Process, mut results: UnboundedReceiver<Settled>) {
    let (stored, untold) = mpsc::channel(UNTOLD);
    let storing = async {
        let mut batch = Vec::with_capacity(BATCH);
        while results.recv_many(&mut batch, BATCH).await > 0 {
            let (mut done, mut ids) = (Vec::new(), Vec::new());
            for settled in batch.drain(..) {
                match settled {
                    Settled::CallCompletion(call) => done.push(call),
                    Settled::Answer(action) => ids.push(action),
                }
            }
            let records = store(&process, done, ids).await;
            if stored.send(records).await.is_err() {
                return;
            }
        }
        drop(stored);
    };
    tokio::join!(storing, tell(&process, untold));
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(200..1_000))).await;
}

/// Stores results, however long it takes: they exist nowhere else. If this process dies first, the leases
/// run out and the actions are retried with the same key, or put in doubt. Returns what is to be told: these, and `asked`.
///
/// A result is dropped when it is stored: its slot is free again.
async fn store(
    process: &Process,
    mut done: Vec<CallCompletion>,
    mut asked: Vec<ActionId>,
) -> Vec<ActionRecord> {
    let mut records = Vec::with_capacity(done.len() + asked.len());
    loop {
        let commit = commit(process, &mut done, &asked, &mut records);
        match process.store.within(process.settings.limits.transaction, commit).await {
            Ok(()) => return records,
            Err(error) => {
                tracing::warn!(%error, results = done.len(), "results not recorded yet");
                if error.is_data() && !done.is_empty() {
                    let stored = done.iter().filter(|call| call.fence != LATE).map(|call| call.action);
                    asked.extend(stored);
                    unstorable(process, std::mem::take(&mut done)).await;
                    continue;
                }
                pause().await;
            }
        }
    }
}

/// One of the results cannot be stored: each is tried alone, and the culprit keeps its state without its text.
async fn unstorable(process: &Process, done: Vec<CallCompletion>) {
    for call in done {
        let (mut one, mut told) = (vec![call], Vec::new());
        while let Err(error) = commit(process, &mut one, &[], &mut told).await {
            let Some(call) = one.first_mut() else { break };
            tracing::error!(%error, action = %call.action, "a result cannot be stored as it is");
            if error.is_data() {
                if call.result.is_none() && call.error.is_none() {
                    break;
                }
                (call.result, call.error) = (None, None);
            }
            pause().await;
        }
    }
}

/// Stores results and drops them. Adds their actions to `records`, and those of `asked`, as they are then.
async fn commit(
    process: &Process,
    done: &mut Vec<CallCompletion>,
    asked: &[ActionId],
    records: &mut Vec<ActionRecord>,
) -> Result<(), StoreError> {
    crash::point("results", "taken");
    let mut seen = HashSet::new();
    let mut ours: Vec<Ended> =
        done.iter().filter(|call| call.fence != LATE && seen.insert(call.action)).map(ended).collect();
    // Everybody moves actions in this order.
    ours.sort_unstable_by_key(|ended| ended.outcome.action);
    if !ours.is_empty() {
        let read: HashMap<ActionId, _> = outcomes::end(&process.store, &ours).await?.into_iter().collect();
        // Once each: what comes a second time is late.
        let mut stored: HashSet<ActionId> = read.keys().copied().collect();
        done.retain(|call| call.fence == LATE || !stored.remove(&call.action));
        records.extend(read.into_values().filter_map(readable));
    }
    if !done.is_empty() || !asked.is_empty() {
        records.extend(rest(process, done, asked).await?);
        done.clear();
    }
    crash::point("results", "committed");
    Ok(())
}

/// A row that nobody can read is not told, and keeps no result from being stored: the sweep comes back to it.
fn readable<T>(read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(%error, "stored, and not told")).ok()
}

/// Stores, under locks, what did not end a claim at once: it is late, or stored already. Its actions are told what has become of
/// them, and so are those of `asked`.
async fn rest(
    process: &Process,
    done: &[CallCompletion],
    asked: &[ActionId],
) -> Result<Vec<ActionRecord>, StoreError> {
    let tx = process.store.transaction().await?;
    write(&tx, done).await?;
    let lost = done.iter().filter(|call| call.fence != LATE).map(|call| call.action);
    let told: Vec<ActionId> = asked.iter().copied().chain(lost).collect();
    match actions::commit(tx, Pipeline::default(), &told, LoadDepth::Outcome).await {
        Err(error @ StoreError::Corrupt(_)) => Ok(readable(Err(error)).unwrap_or_default()),
        records => records,
    }
}

fn state(completion: Completion) -> State {
    match completion {
        Completion::Succeeded => State::Succeeded,
        Completion::Failed => State::Failed,
        Completion::Unknown => State::InDoubt,
    }
}

/// Records completions under their fences. Idempotent: after an unknown commit nothing is written twice.
pub(crate) async fn write(tx: &Transaction, done: &[CallCompletion]) -> Result<(), StoreError> {
    let ids: Vec<ActionId> = done.iter().map(|call| call.action).collect();
    let mut held = outcomes::hold(tx, &ids).await?;
    let (mut ours, mut late) = (Vec::new(), Vec::new());
    for call in done {
        if held.get(&call.action) == Some(&call.fence) {
            // Once.
            held.remove(&call.action);
            ours.push(ended(call));
        } else {
            // Somebody else has taken the action over, or this result is stored already: kept, never dropped.
            late.push(LateResult::new(call.action, call.result.clone(), rand::random(), noted(call)));
        }
    }
    outcomes::settle(tx, &ours, &late).await
}

fn noted(call: &CallCompletion) -> ActionCompleted {
    ActionCompleted {
        state: state(call.completion),
        fence: call.fence,
        attempts: call.attempts,
        error_code: call.error.as_ref().map(|error| error.code.clone()),
        result_digest: call.result.as_ref().and(call.result_digest.clone()),
    }
}

fn ended(call: &CallCompletion) -> Ended {
    let (result, error) = (call.result.clone(), call.error.clone());
    Ended {
        fence: call.fence,
        outcome: NewOutcome::new(call.action, state(call.completion), result, error),
        evidence: Evidence::of(call.action, Event::ActionCompleted(noted(call))),
    }
}

/// Tells agents, and when the broker has confirmed that, the sampler. Tries a few times; what is then still
/// unanswered is found by the sweep.
async fn tell(process: &Process, mut untold: Receiver<Vec<ActionRecord>>) {
    let (mut batches, mut publisher) = (Vec::with_capacity(UNTOLD), None);
    let mut late = false;
    while untold.recv_many(&mut batches, UNTOLD).await > 0 {
        let mut records: Vec<ActionRecord> = batches.drain(..).flatten().collect();
        // What has waited behind a failure is told as it is by now: others may have told it, and a human resolved it.
        let waited = std::mem::take(&mut late);
        for _ in 0..3 {
            let told = async {
                if waited || late {
                    records = again(process, &records).await?;
                }
                publish(process, &mut publisher, &records).await
            };
            match told.await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "outcomes not sent yet"),
            }
            (publisher, late) = (None, true);
            pause().await;
        }
    }
}

/// Actions as they are now.
async fn again(process: &Process, records: &[ActionRecord]) -> Result<Vec<ActionRecord>, RecordError> {
    let ids: Vec<ActionId> = records.iter().map(|record| record.id).collect();
    let read = rest(process, &[], &ids);
    Ok(process.store.within(process.settings.limits.transaction, read).await?)
}

async fn publish(
    process: &Process,
    publisher: &mut Option<Publisher>,
    records: &[ActionRecord],
) -> Result<(), RecordError> {
    let executed: Vec<_> = records.iter().filter(|record| record.status.state.executed()).collect();
    let publisher = match publisher {
        Some(publisher) => publisher,
        None => {
            publisher.insert(Publisher::connect(&process.amqp_url, "countersign-executor:results").await?)
        }
    };
    let answers: Vec<Outgoing> = executed.iter().filter_map(|record| messages::outcome(record)).collect();
    publisher.publish(&answers).await?;
    crash::point("results", "answered");
    let settled: Vec<ActionId> = executed.iter().map(|record| record.id).collect();
    let now = executed.first().map(|record| record.now).unwrap_or_default();
    Ok(publisher.publish(&messages::settled("/countersign/executor", &settled, now)).await?)
}
