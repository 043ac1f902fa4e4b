//! The recorder of results: second commit, the answer to the agent, then the sampler.

use std::time::Duration;

use countersign_broker::{
    BrokerError, crash,
    publisher::{Outgoing, Publisher},
};
use countersign_core::{
    action::State,
    digest::{salted, tagged},
    ids::ActionId,
    transition::Completion,
};
use countersign_store::{
    StoreError, Transaction,
    actions::ActionRecord,
    evidence::Evidence,
    outcomes::{self, Held, LateResult, NewOutcome, Results},
};
use countersign_worker::{messages, process::Process};
use serde_json::json;
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver};

use crate::call::{Done, LATE, Settled};

/// Most results in one transaction.
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
                    Settled::Done(call) => done.push(call),
                    Settled::Answer(action) => ids.push(action),
                }
            }
            let records = store(&process, &mut done, ids).await;
            // The places are free again: what is stored no longer needs this process's memory.
            drop(done);
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
async fn store(process: &Process, done: &mut [Done], mut asked: Vec<ActionId>) -> Vec<ActionRecord> {
    let mut stored = false;
    loop {
        let fresh = if stored { &[][..] } else { &*done };
        let commit = commit(process, fresh, &asked);
        match process.store.within(process.settings.limits.transaction, commit).await {
            Ok(records) => return records,
            Err(error) => {
                tracing::warn!(%error, results = done.len(), "results not recorded yet");
                if error.is_data() && !stored {
                    unstorable(process, done).await;
                    asked.extend(done.iter().filter(|call| call.fence != LATE).map(|call| call.action));
                    stored = true;
                    continue;
                }
                pause().await;
            }
        }
    }
}

/// One of the results cannot be stored: each is tried alone, and the culprit keeps its state without its text.
async fn unstorable(process: &Process, done: &mut [Done]) {
    for call in done {
        while let Err(error) = commit(process, std::slice::from_ref(call), &[]).await {
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

/// Stores results. Returns their actions, and those of `asked`, as the same transaction leaves them.
async fn commit(
    process: &Process,
    done: &[Done],
    asked: &[ActionId],
) -> Result<Vec<ActionRecord>, StoreError> {
    let ids: Vec<ActionId> = done.iter().map(|call| call.action).collect();
    let (tx, held) = outcomes::begin(&process.store, &ids).await?;
    // One that has lost its claim may be one that is stored already: its agent is told what has become of it.
    let lost = done.iter().filter(|call| call.fence != LATE && !holds(&held, call)).map(|call| call.action);
    let others: Vec<ActionId> = asked.iter().copied().chain(lost).collect();
    let results = results(done, held);
    crash::point("results", "taken");
    let records = match results.commit(tx, &others).await {
        // A row that nobody can read must not keep the others' results from being stored: the sweep comes back to it.
        Err(StoreError::Corrupt(why)) => {
            tracing::error!(why, actions = ids.len() + asked.len(), "stored, and not told");
            vec![]
        }
        records => records?,
    };
    crash::point("results", "committed");
    Ok(records)
}

fn state(completion: Completion) -> State {
    match completion {
        Completion::Succeeded => State::Succeeded,
        Completion::Failed => State::Failed,
        Completion::Unknown => State::InDoubt,
    }
}

/// Records completions under their fences. Idempotent: after an unknown commit nothing is written twice.
pub(crate) async fn write(tx: &Transaction, done: &[Done]) -> Result<(), StoreError> {
    let ids: Vec<ActionId> = done.iter().map(|call| call.action).collect();
    results(done, outcomes::hold(tx, &ids).await?).write(tx).await
}

fn holds(held: &Held, call: &Done) -> bool {
    held.fences.get(&call.action) == Some(&call.fence)
}

fn results(done: &[Done], mut held: Held) -> Results {
    let mut results = Results::default();
    for call in done {
        let state = state(call.completion);
        let mut noted = json!({
            "state": state, "fence": call.fence, "attempts": call.attempts,
            "error_code": call.error.as_ref().map(|error| &error.code),
        });
        if holds(&held, call) {
            // Once.
            held.fences.remove(&call.action);
            let digest = call.result.as_deref().zip(held.salts.get(&call.action));
            let digest = digest.map(|(result, salt)| tagged(&salted(salt, result)));
            noted["result_digest"] = json!(digest);
            results.evidence.push(Evidence::of(call.action, "action.completed", noted));
            let outcome = NewOutcome::new(call.action, state, call.result.clone(), call.error.clone());
            results.ended.push((call.fence, outcome));
        } else {
            // Somebody else has taken the action over, or this result is stored already: kept, never dropped.
            let row = LateResult::new(call.action, call.fence, call.result.clone(), rand::random());
            results.evidence.push(Evidence::of(call.action, "result.late", row.noted(noted)));
            results.late.push(row);
        }
    }
    results
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
    let read = commit(process, &[], &ids);
    Ok(process.store.within(process.settings.limits.transaction, read).await?)
}

async fn publish(
    process: &Process,
    publisher: &mut Option<Publisher>,
    records: &[ActionRecord],
) -> Result<(), RecordError> {
    let executed: Vec<_> = records.iter().filter(|record| record.ruling.state.executed()).collect();
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
