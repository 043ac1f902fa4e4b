//! Calls under way: bounded, concurrent, outliving the lane that started them.

use std::sync::Arc;

use countersign_broker::crash;
use countersign_core::{
    attempt::Attempt,
    digest::{salted, tagged},
    ids::ActionId,
    message::Failure,
    refusal::Code,
    transition::Completion,
};
use countersign_runtime::process::Process;
use countersign_store::{Store, claims};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

use crate::{
    connector::{Call, CallResult, call_with_retry},
    tools::{ToolCall, Tools},
};

/// The fence of an answer that came after its attempt had been given up. Claims count from 1, so the answer changes no
/// state; it is kept as evidence.
pub(crate) const LATE: i32 = 0;

/// How often a claim is renewed whose call has not begun. A machine that is too busy for that should make no calls.
const RENEWALS: u32 = 3;

/// What is to be recorded or published.
pub(crate) enum Settled {
    /// A call ended.
    Completed(CallCompletion),
    /// An action's agent is to be notified of the stored outcome.
    Notify(ActionId),
}

/// How a call ended.
pub(crate) struct CallCompletion {
    pub(crate) action: ActionId,
    pub(crate) fence: i32,
    pub(crate) completion: Completion,
    pub(crate) result: Option<Vec<u8>>,
    /// What evidence says of the result: its salted digest.
    pub(crate) result_digest: Option<String>,
    pub(crate) error: Option<Failure>,
    pub(crate) attempts: u32,
    /// The call's slot, given back when its outcome is recorded.
    #[expect(dead_code, reason = "held until the result is recorded, never read")]
    pub(crate) slot: Option<OwnedSemaphorePermit>,
}

impl CallCompletion {
    /// A completion for which no call was made.
    pub(crate) fn of(action: ActionId, fence: i32, completion: Completion) -> Self {
        Self {
            action,
            fence,
            completion,
            result: None,
            result_digest: None,
            error: None,
            attempts: 0,
            slot: None,
        }
    }
}

/// A claimed action, ready to be called.
pub(crate) struct ClaimedCall {
    pub(crate) action: ActionId,
    pub(crate) fence: i32,
    pub(crate) reference: (String, String),
    pub(crate) tool: Arc<ToolCall>,
    pub(crate) content: Vec<u8>,
    /// The salt of its result's digest.
    pub(crate) salt: Vec<u8>,
    pub(crate) traceparent: Option<String>,
    /// When the claim was made, by this process's monotonic clock.
    pub(crate) claimed_at: Instant,
}

/// Starts calls and keeps count of them.
#[derive(Clone)]
pub(crate) struct Calls {
    store: Store,
    call_slots: Arc<Semaphore>,
    settled: mpsc::UnboundedSender<Settled>,
    pub(crate) tools: Arc<Tools>,
}

impl Calls {
    /// The channel needs no limit of its own: whatever is in it holds a slot, or came by a bounded lane.
    pub(crate) fn new(process: &Process, settled: mpsc::UnboundedSender<Settled>) -> Self {
        let recorder = settled.clone();
        let late = Arc::new(move |key: &str, attempt| {
            if let Some(completion) = late(key, attempt) {
                // As in `settle`.
                let _ = recorder.send(Settled::Completed(completion));
            }
        });
        Self {
            store: process.store.clone(),
            call_slots: Arc::new(Semaphore::new(process.settings.limits.calls as usize)),
            settled,
            tools: Arc::new(Tools::new(&process.amqp_url, late)),
        }
    }

    /// Waits for `count` slots.
    pub(crate) async fn reserve(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        self.call_slots.clone().acquire_many_owned(count).await.ok()
    }

    /// Hands a result over to the task that records it.
    pub(crate) fn settle(&self, settled: Settled) {
        // That task outlives every sender; a closed channel means that the process has died.
        let _ = self.settled.send(settled);
    }

    /// Starts a call that goes on whatever happens to the lane.
    pub(crate) fn start(&self, claimed: ClaimedCall, slot: Option<OwnedSemaphorePermit>) {
        let calls = self.clone();
        tokio::spawn(async move {
            if let Some(completion) = execute(&calls.store, claimed, slot).await {
                calls.settle(Settled::Completed(completion));
            }
        });
    }
}

/// A late answer as a completion.
fn late(key: &str, attempt: Attempt) -> Option<CallCompletion> {
    let (completion, result, error) = match attempt {
        Attempt::Succeeded(value) => (Completion::Succeeded, Some(value), None),
        Attempt::Failed { code, message } => (Completion::Failed, None, Some(Failure::new(code, message))),
        Attempt::Unknown { code, message } | Attempt::NotSent { code, message } => {
            (Completion::Unknown, None, Some(Failure::new(code, message)))
        }
    };
    let result = result.map(|value| value.to_string().into_bytes());
    let action = key.parse().ok()?;
    Some(CallCompletion { result, error, ..CallCompletion::of(action, LATE, completion) })
}

/// Whether a claim's lease covers an attempt. One that was claimed or resumed slowly is renewed first.
async fn covered(store: &Store, claimed: &mut ClaimedCall) -> bool {
    for _ in 0..=RENEWALS {
        let tool = &claimed.tool;
        let left = tool.lease.saturating_sub(claimed.claimed_at.elapsed());
        if tool.timeout <= left {
            return true;
        }
        let (now, lease) = (Instant::now(), tool.lease.as_secs_f64());
        let renewed = store.within(left, async {
            claims::renew(&*store.client().await?, claimed.action, claimed.fence, lease).await
        });
        match renewed.await {
            Ok(true) => claimed.claimed_at = now,
            Ok(false) => return false,
            Err(error) => tracing::warn!(action = %claimed.action, %error, "a claim was not renewed"),
        }
    }
    false
}

/// Calls the tool. `None` if the lease has ended first and the call may be repeated: then whoever finds the interrupted
/// attempt sees to that.
async fn execute(
    store: &Store,
    mut claimed: ClaimedCall,
    slot: Option<OwnedSemaphorePermit>,
) -> Option<CallCompletion> {
    let covered = covered(store, &mut claimed).await;
    let tool = &claimed.tool;
    let (result, attempts) = match arguments(&claimed.content) {
        // Resumed after a long stop: another executor may hold the lease by now, so this call must not start.
        _ if !covered => {
            let (code, message) =
                (Code::LeaseExpired.into(), "the claim was too old to start the call".into());
            // A call that never began had no effect, unless there was an earlier attempt.
            match claimed.fence > 1 {
                true => (lease_ended(&claimed, message)?, 0),
                false => (CallResult::Failed { code, message }, 0),
            }
        }
        Some(arguments) => call(&claimed, arguments.get().as_bytes()).await?,
        None => {
            let message = "the stored content does not parse; nothing was called".into();
            (CallResult::Failed { code: Code::ContentUnreadable.into(), message }, 0)
        }
    };
    let (completion, result, error) = match result {
        CallResult::Succeeded(value) => (Completion::Succeeded, Some(value.to_string().into_bytes()), None),
        CallResult::Failed { code, message } => (Completion::Failed, None, Some(Failure::new(code, message))),
        CallResult::InDoubt { code, message } => {
            (Completion::Unknown, None, Some(Failure::new(code, message)))
        }
    };
    crash::point("call", "ended");
    metrics::counter!("countersign_calls_total", "tool" => tool.name.clone()).increment(1);
    let salt = claimed.salt.as_slice().try_into().ok();
    let result_digest = result.as_ref().zip(salt).map(|(result, salt)| tagged(&salted(salt, result)));
    Some(CallCompletion {
        result,
        result_digest,
        error,
        attempts,
        slot,
        ..CallCompletion::of(claimed.action, claimed.fence, completion)
    })
}

/// What an attempt that may have taken effect comes to when its lease ends. `None` if the call may be repeated.
fn lease_ended(claimed: &ClaimedCall, message: String) -> Option<CallResult> {
    if claimed.tool.idempotent {
        tracing::warn!(action = %claimed.action, message, "an interrupted call will be repeated");
        return None;
    }
    Some(CallResult::InDoubt { code: Code::LeaseExpired.into(), message })
}

async fn call(claimed: &ClaimedCall, arguments: &[u8]) -> Option<(CallResult, u32)> {
    let tool = &claimed.tool;
    let key = claimed.action.to_string();
    crash::point("call", "begins");
    let call = Call {
        tool: &tool.name,
        arguments,
        idempotency_key: &key,
        action: (&claimed.reference.0, &claimed.reference.1),
        traceparent: claimed.traceparent.as_deref(),
        timeout: tool.timeout,
    };
    let attempts = call_with_retry(
        tool.connector.as_ref(),
        &call,
        tool.idempotent,
        tool.attempts,
        tool.backoff,
        claimed.fence > 1,
    );
    // The budget already bounds the attempts; this limit holds even if a connector ignores it.
    match tokio::time::timeout(tool.lease.saturating_sub(claimed.claimed_at.elapsed()), attempts).await {
        Ok(ended) => Some(ended),
        Err(_) => Some((lease_ended(claimed, "the attempts outlasted their lease".into())?, tool.attempts)),
    }
}

/// The arguments, byte for byte as they stand in the canonical content.
fn arguments(content: &[u8]) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        arguments: &'a RawValue,
    }
    serde_json::from_slice::<Content<'_>>(content).ok().map(|content| content.arguments)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::connector::Connector;
    use async_trait::async_trait;

    /// A tool that never answers.
    struct Silent;

    #[async_trait]
    impl Connector for Silent {
        async fn call(&self, _: &Call<'_>) -> Attempt {
            std::future::pending().await
        }
    }

    /// A claim on a silent tool whose lease ends in its third attempt.
    fn claimed(idempotent: bool) -> ClaimedCall {
        let tool = ToolCall {
            name: "silent".into(),
            connector: Arc::new(Silent),
            idempotent,
            timeout: Duration::from_secs(2),
            attempts: 10,
            backoff: Duration::from_millis(1),
            lease: Duration::from_secs(5),
        };
        ClaimedCall {
            action: "00000000-0000-0000-0000-000000000001".parse().unwrap(),
            fence: 1,
            reference: ("/agents/a".into(), "a-1".into()),
            tool: Arc::new(tool),
            content: br#"{"arguments":{}}"#.to_vec(),
            salt: vec![0; 16],
            traceparent: None,
            claimed_at: Instant::now(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idempotent_call_that_outlasts_its_lease_is_left_to_be_repeated() {
        assert!(call(&claimed(true), b"{}").await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn any_other_call_without_an_answer_is_in_doubt() {
        let mut once = claimed(false);
        let (result, attempts) = call(&once, b"{}").await.unwrap();
        assert!(matches!(result, CallResult::InDoubt { .. }) && attempts == 1);
        once.claimed_at -= Duration::from_secs(4);
        let (result, _) = call(&once, b"{}").await.unwrap();
        let code = Code::LeaseExpired.as_str().to_owned();
        assert!(matches!(result, CallResult::InDoubt { code: found, .. } if found == code));
    }
}
