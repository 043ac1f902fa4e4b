//! Results: the second commit, then the outcome to the agent and the settled pack to the sampler.
//!
//! A batch's outcomes are stored together with a note that they are pending ([`notifications`]). The note is deleted
//! when the broker has confirmed them; a sweep republishes what is still noted after a while.

use std::{collections::HashSet, time::Duration};

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
    notifications,
    outcomes::{self, Ended, LateResult, NewOutcome},
};
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver};

use crate::call::{CallCompletion, LATE, Settled};

/// The most results in one batch.
const BATCH_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// The most batches that are stored but not published: beyond this, no more results are received from the calls.
const STORED_MAX: usize = 4;

/// Outcomes that are stored and to be published.
#[derive(Default)]
struct Stored {
    records: Vec<ActionRecord>,
    /// The notes that some of them are pending.
    notes: Vec<i64>,
    /// Actions whose notes are unknown.
    unnoted: HashSet<ActionId>,
}

impl Stored {
    fn extend(&mut self, other: Self) {
        self.records.extend(other.records);
        self.notes.extend(other.notes);
        self.unnoted.extend(other.unnoted);
    }

    /// Adds actions as they are now.
    fn extend_unnoted(&mut self, records: Vec<ActionRecord>) {
        self.unnoted.extend(records.iter().map(|record| record.id));
        self.records.extend(records);
    }
}

/// Records results and publishes outcomes until every lane and every call has ended. While one batch is published, the
/// next is stored.
pub(crate) async fn run(process: Process, mut results: UnboundedReceiver<Settled>) {
    let (to_publish, stored) = mpsc::channel(STORED_MAX);
    let storing = async {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while results.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let (mut completed, mut ids) = (Vec::new(), Vec::new());
            for settled in batch.drain(..) {
                match settled {
                    Settled::Completed(call) => completed.push(call),
                    Settled::Notify(action) => ids.push(action),
                }
            }
            let stored = store(&process, completed, ids).await;
            if to_publish.send(stored).await.is_err() {
                return;
            }
        }
        drop(to_publish);
    };
    tokio::join!(storing, notify(&process, stored));
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(200..1_000))).await;
}

/// Stores results, however long it takes: they exist nowhere else. If this process dies first, the leases run out and
/// the actions are retried with the same key, or put in doubt. Returns the outcomes to publish: theirs, and those of
/// `to_notify`.
///
/// A stored result is dropped, which frees its slot.
async fn store(
    process: &Process,
    mut completed: Vec<CallCompletion>,
    mut to_notify: Vec<ActionId>,
) -> Stored {
    let mut stored = Stored::default();
    loop {
        let commit = commit(process, &mut completed, &to_notify, &mut stored);
        match process.store.within(process.settings.limits.transaction, commit).await {
            Ok(()) => return stored,
            Err(error) => {
                tracing::warn!(%error, results = completed.len(), "results not recorded yet");
                if error.is_refusal() && !completed.is_empty() {
                    let ours = completed.iter().filter(|call| call.fence != LATE).map(|call| call.action);
                    to_notify.extend(ours);
                    one_by_one(process, std::mem::take(&mut completed)).await;
                    continue;
                }
                pause().await;
            }
        }
    }
}

/// Stores results one by one because one of them cannot be stored: the culprit keeps its state but loses its text.
async fn one_by_one(process: &Process, completed: Vec<CallCompletion>) {
    for call in completed {
        // Published later, as it is stored then.
        let (mut one, mut stored) = (vec![call], Stored::default());
        while let Err(error) = commit(process, &mut one, &[], &mut stored).await {
            let Some(call) = one.first_mut() else { break };
            tracing::error!(%error, action = %call.action, "a result cannot be stored as it is");
            if error.is_refusal() {
                if call.result.is_none() && call.error.is_none() {
                    break;
                }
                (call.result, call.error) = (None, None);
            }
            pause().await;
        }
    }
}

/// Stores results and drops them. Adds their actions and those of `to_notify` to `stored`, as they are afterwards.
async fn commit(
    process: &Process,
    completed: &mut Vec<CallCompletion>,
    to_notify: &[ActionId],
    stored: &mut Stored,
) -> Result<(), StoreError> {
    crash::point("results", "taken");
    let mut seen = HashSet::new();
    let mut ours: Vec<Ended> =
        completed.iter().filter(|call| call.fence != LATE && seen.insert(call.action)).map(ended).collect();
    // All transactions lock actions in this order.
    ours.sort_unstable_by_key(|ended| ended.outcome.action);
    if !ours.is_empty() {
        let moved = outcomes::end(&process.store, &ours).await?;
        // Once each: a second completion of an action is late.
        let mut once: HashSet<ActionId> = moved.actions.iter().map(|(action, _)| *action).collect();
        completed.retain(|call| call.fence == LATE || !once.remove(&call.action));
        let count = moved.actions.len();
        let records: Vec<_> = moved.actions.into_iter().filter_map(|(_, read)| readable(read)).collect();
        // A row that cannot be read stays noted: the sweep comes back to it.
        if records.len() == count {
            stored.records.extend(records);
            stored.notes.extend(moved.note);
        } else {
            stored.extend_unnoted(records);
        }
    }
    if !completed.is_empty() || !to_notify.is_empty() {
        stored.extend_unnoted(rest(process, completed, to_notify).await?);
        completed.clear();
    }
    crash::point("results", "committed");
    Ok(())
}

/// Logs an unreadable row and leaves it out, so that it does not block other results.
fn readable<T>(read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(%error, "an outcome is stored but cannot be published")).ok()
}

/// Stores, under locks, the results that did not end a claim at once: they are late, or stored already. Returns their
/// actions and those of `to_notify`, as they are afterwards.
async fn rest(
    process: &Process,
    completed: &[CallCompletion],
    to_notify: &[ActionId],
) -> Result<Vec<ActionRecord>, StoreError> {
    let tx = process.store.transaction().await?;
    write(&tx, completed).await?;
    let lost = completed.iter().filter(|call| call.fence != LATE).map(|call| call.action);
    let ids: Vec<ActionId> = to_notify.iter().copied().chain(lost).collect();
    match actions::commit(tx, Pipeline::default(), &ids, LoadDepth::Outcome).await {
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
pub(crate) async fn write(tx: &Transaction, completed: &[CallCompletion]) -> Result<(), StoreError> {
    let ids: Vec<ActionId> = completed.iter().map(|call| call.action).collect();
    let mut executing = outcomes::lock_executing(tx, &ids).await?;
    let (mut ours, mut late) = (Vec::new(), Vec::new());
    for call in completed {
        if executing.get(&call.action) == Some(&call.fence) {
            // A second completion of the same action is late.
            executing.remove(&call.action);
            ours.push(ended(call));
        } else {
            // Another executor has taken over the action, or this result is stored already: kept, never dropped.
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

/// Publishes outcomes to agents, and when the broker has confirmed them, packs to the sampler. Tries a few times; after
/// that, the sweep finds what is still noted as pending.
async fn notify(process: &Process, mut waiting: Receiver<Stored>) {
    let (mut batches, mut publisher) = (Vec::with_capacity(STORED_MAX), None);
    let mut late = false;
    while waiting.recv_many(&mut batches, STORED_MAX).await > 0 {
        let mut stored = Stored::default();
        batches.drain(..).for_each(|batch| stored.extend(batch));
        // Whatever waited behind a failure is reloaded: it may have been published or resolved meanwhile.
        let waited = std::mem::take(&mut late);
        for _ in 0..3 {
            let notified = async {
                if waited || late {
                    stored = reload(process, &stored.records).await?;
                }
                publish(process, &mut publisher, &stored).await
            };
            match notified.await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "outcomes not published yet"),
            }
            (publisher, late) = (None, true);
            pause().await;
        }
    }
}

/// Actions as they are now.
async fn reload(process: &Process, records: &[ActionRecord]) -> Result<Stored, RecordError> {
    let ids: Vec<ActionId> = records.iter().map(|record| record.id).collect();
    let read = rest(process, &[], &ids);
    let mut stored = Stored::default();
    stored.extend_unnoted(process.store.within(process.settings.limits.transaction, read).await?);
    Ok(stored)
}

async fn publish(
    process: &Process,
    publisher: &mut Option<Publisher>,
    stored: &Stored,
) -> Result<(), RecordError> {
    let executed: Vec<_> = stored.records.iter().filter(|record| record.status.state.executed()).collect();
    let publisher = match publisher {
        Some(publisher) => publisher,
        None => {
            publisher.insert(Publisher::connect(&process.amqp_url, "countersign-executor:results").await?)
        }
    };
    let outcomes: Vec<Outgoing> = executed.iter().filter_map(|record| messages::outcome(record)).collect();
    publisher.publish(&outcomes).await?;
    crash::point("results", "answered");
    let settled: Vec<ActionId> = executed.iter().map(|record| record.id).collect();
    let now = executed.first().map(|record| record.now).unwrap_or_default();
    let packs = messages::settled("/countersign/executor", &settled, now);
    // Nothing waits for the notes to be deleted, so that happens while the packs are confirmed.
    let ((), handed_over) = tokio::join!(confirmed(process, stored, &settled), publisher.publish(&packs));
    Ok(handed_over?)
}

/// Deletes the notes of what the broker has confirmed. Where that fails, the sweep publishes it again: at least once.
async fn confirmed(process: &Process, stored: &Stored, published: &[ActionId]) {
    let unnoted: Vec<ActionId> =
        published.iter().filter(|action| stored.unnoted.contains(action)).copied().collect();
    let delete = async {
        notifications::confirmed(&process.store, &stored.notes).await?;
        notifications::confirmed_actions(&process.store, &unnoted).await
    };
    if let Err(error) = process.store.within(process.settings.limits.transaction, delete).await {
        tracing::warn!(%error, "confirmed outcomes are still noted as pending, and will be published again");
    }
}
