//! Answers: the results of decisions and findings that were sent.

use std::time::Duration;

use countersign_core::ids::ActionId;
use countersign_store::{
    Store,
    evidence::{self, TimelineEntry},
    gold::{self, GoldRecord},
};
use serde::Serialize;
use serde_json::Value;

use crate::AppError;

/// The result of a decision or a finding.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// Whether it was applied; otherwise it was refused.
    #[serde(skip)]
    pub applied: bool,
    /// Its evidence, with the kind as `kind`.
    #[serde(flatten)]
    pub evidence: Value,
}

impl Answer {
    /// A text member of the evidence.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.evidence[member].as_str()
    }
}

/// The interval between polls of the database, and their number: 10 s in all.
const POLL: (Duration, usize) = (Duration::from_millis(100), 100);

/// Waits for the evidence of a decision's or finding's result, by the id of its event. Evidence of the kind `refused` means
/// that it was not applied.
///
/// # Errors
/// If it is not applied within 10 seconds, or the database cannot be read.
pub(crate) async fn wait(
    store: &Store,
    action: ActionId,
    event: &str,
    refused: &str,
) -> Result<Answer, AppError> {
    poll(action, refused, async || {
        let timeline = evidence::timeline(&store.transaction().await?, action).await?;
        Ok(timeline.into_iter().rev().find(|entry| entry.body["event"] == event))
    })
    .await
}

/// The same for a finding on a gold item, which is not evidence of the action that it shows.
///
/// # Errors
/// As those of [`wait`].
pub(crate) async fn wait_for_gold(
    store: &Store,
    item: &GoldRecord,
    event: &str,
    refused: &str,
) -> Result<Answer, AppError> {
    let noted = async || Ok(gold::answer(&store.transaction().await?, item.id, event).await?);
    poll(item.action, refused, noted).await
}

async fn poll(
    action: ActionId,
    refused: &str,
    noted: impl AsyncFn() -> Result<Option<TimelineEntry>, AppError>,
) -> Result<Answer, AppError> {
    let (interval, times) = POLL;
    for _ in 0..times {
        if let Some(entry) = noted().await? {
            let (mut evidence, applied) = (entry.body, entry.kind != refused);
            evidence["kind"] = entry.kind.into();
            return Ok(Answer { applied, evidence });
        }
        tokio::time::sleep(interval).await;
    }
    Err(AppError::State(format!(
        "it was sent, but nobody has applied it yet; `countersign actions show {action}` tells when"
    )))
}
