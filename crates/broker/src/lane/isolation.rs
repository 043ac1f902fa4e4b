//! Isolation: one message never stops a lane. A batch that fails is halved until the message that fails alone is found, and
//! that message is quarantined if the database is well.

use std::{
    any::Any,
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::AssertUnwindSafe,
    time::Duration,
};

use countersign_core::refusal::Code;
use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::handler::{Delivery, Failure, Handler};
use crate::publisher::Outgoing;

/// How often a deadlock is retried.
const RETRIES: u32 = 10;

/// How often the database must refuse a message that is handled alone, while a probe succeeds in between, until the message is
/// quarantined.
const REFUSALS: u32 = 3;

/// How often a message that is handled alone must end without an answer, each time after the lane has connected again and
/// while a probe succeeds in between, until it is quarantined.
const STRIKES: u32 = 5;

/// The most messages that a lane suspects. Beyond it, it forgets them all.
const SUSPECTS_MAX: usize = 1_024;

/// The messages that ended without an answer when they were handled alone, and how often. A lane keeps them when it restarts.
#[derive(Default)]
pub(super) struct Suspects(HashMap<u64, u32>);

impl Suspects {
    /// Counts a failure of a message. Returns whether it has failed often enough.
    fn strike(&mut self, delivery: &Delivery) -> bool {
        if self.0.len() >= SUSPECTS_MAX {
            self.0.clear();
        }
        let strikes = self.0.entry(fingerprint(delivery)).or_default();
        *strikes += 1;
        *strikes >= STRIKES
    }

    fn acquit(&mut self, delivery: &Delivery) {
        if !self.0.is_empty() {
            self.0.remove(&fingerprint(delivery));
        }
    }
}

fn fingerprint(delivery: &Delivery) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&delivery.exchange, &delivery.routing_key, &delivery.author, &delivery.body).hash(&mut hasher);
    hasher.finish()
}

/// The result of a batch.
#[derive(Default)]
pub(super) struct Applied {
    /// What follows from the messages that were handled.
    pub(super) outgoing: Vec<Outgoing>,
    /// The indices of the messages that were not, and why the last of them was not.
    pub(super) unhandled: Vec<usize>,
    pub(super) why: String,
}

/// Handles a batch, each attempt within `limit`.
///
/// # Errors
/// Where the database is not well, which is no message's fault.
pub(super) async fn apply<H: Handler>(
    handler: &mut H,
    batch: &[Delivery],
    limit: Duration,
    suspects: &mut Suspects,
) -> Result<Applied, Failure> {
    let mut applied = Applied::default();
    let mut waiting = Vec::new();
    // Usually the batch as a whole. Unreadable messages split it.
    for part in batch.chunk_by(|a, b| a.unreadable.is_none() && b.unreadable.is_none()) {
        match &part[0].unreadable {
            Some(why) => handler.quarantine(&part[0], Code::UnreadableProperties, why).await?,
            None => waiting.push(part),
        }
    }
    waiting.reverse();
    while let Some(part) = waiting.pop() {
        let failure = match attempt(handler, part, limit).await {
            Ok(more) => {
                applied.outgoing.extend(more);
                part.iter().for_each(|delivery| suspects.acquit(delivery));
                continue;
            }
            Err(failure @ Failure::Unavailable(_)) => return Err(failure),
            Err(failure) if cfg!(feature = "broken-no-isolation") => return Err(failure),
            Err(failure) => failure,
        };
        handler.probe().await?;
        if let [delivery] = part {
            match alone(handler, delivery, failure, limit, suspects).await? {
                Ok(more) => applied.outgoing.extend(more),
                Err(why) => {
                    applied.unhandled.extend(index(batch, delivery));
                    applied.why = why;
                }
            }
            continue;
        }
        let (first, second) = part.split_at(part.len() / 2);
        tracing::debug!(?failure, messages = part.len(), "a batch failed and is halved");
        waiting.extend([second, first]);
    }
    Ok(applied)
}

fn index(batch: &[Delivery], delivery: &Delivery) -> Option<usize> {
    batch.iter().position(|other| std::ptr::eq(other, delivery))
}

/// Handles a message that has failed alone, while the database is well: quarantines it if it fails again and again. `Err` within
/// says why it is to be delivered again.
async fn alone<H: Handler>(
    handler: &mut H,
    delivery: &Delivery,
    mut failure: Failure,
    limit: Duration,
    suspects: &mut Suspects,
) -> Result<Result<Vec<Outgoing>, String>, Failure> {
    for refusals in 1.. {
        let (reason, guilty) = match failure {
            Failure::Unavailable(_) => return Err(failure),
            Failure::Retry(why) => return Ok(Err(why)),
            Failure::Refused(why) => (why, refusals >= REFUSALS),
            Failure::Unanswered(why) if suspects.strike(delivery) => (why, true),
            Failure::Unanswered(why) => return Ok(Err(why)),
        };
        if guilty {
            suspects.acquit(delivery);
            handler.quarantine(delivery, Code::Poison, &reason).await?;
            break;
        }
        failure = match attempt(handler, std::slice::from_ref(delivery), limit).await {
            Ok(outgoing) => return Ok(Ok(outgoing)),
            Err(failure) => failure,
        };
        handler.probe().await?;
    }
    Ok(Ok(vec![]))
}

/// Handles messages together. A deadlock is retried at once, and a panic is the messages' fault.
async fn attempt<H: Handler>(
    handler: &mut H,
    batch: &[Delivery],
    limit: Duration,
) -> Result<Vec<Outgoing>, Failure> {
    let mut deadlock = String::new();
    for _ in 0..RETRIES {
        let handled = AssertUnwindSafe(handler.handle(batch)).catch_unwind();
        match timeout(limit, handled).await {
            Ok(Ok(Err(Failure::Retry(why)))) => {
                tracing::debug!(why, "transaction retried");
                deadlock = why;
            }
            Ok(Ok(ended)) => return ended,
            Ok(Err(panic)) => {
                return Err(Failure::Refused(format!("the handler panicked: {}", text(&*panic))));
            }
            Err(_) => return Err(Failure::Unanswered(format!("it took longer than {limit:?}"))),
        }
    }
    Err(Failure::Unanswered(format!("the transaction failed {RETRIES} times in a row: {deadlock}")))
}

/// What a panic says.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
