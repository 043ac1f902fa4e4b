//! Attempts: repeated where that is safe, in doubt where the effect is unknown.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use countersign_core::attempt::Attempt;
use countersign_core::refusal::Code;
use serde_json::Value;

use super::interface::{Call, Connector};

/// How all attempts together ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CallResult {
    /// Done, with this answer.
    Succeeded(Value),
    /// Definitely not done.
    Failed {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// It may or may not have been done.
    InDoubt {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// Calls a tool up to `attempts` times, each bounded by the call's timeout, with growing and jittered pauses from
/// `backoff` on. Returns how many attempts were made.
///
/// An attempt without a definite answer is repeated with the same key if the tool is idempotent, and never otherwise.
/// Once any attempt is left without an answer, only a success is conclusive: no failure proves that there was no
/// effect. `interrupted` means that there was such an attempt before these.
pub async fn call_with_retry(
    connector: &dyn Connector,
    call: &Call<'_>,
    idempotent: bool,
    attempts: u32,
    backoff: Duration,
    interrupted: bool,
) -> (CallResult, u32) {
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(backoff / 2)
        .with_jitter()
        .with_max_times(attempts.saturating_sub(1) as usize)
        .build();
    let mut doubt = interrupted.then(|| {
        let message = "an earlier attempt was interrupted and may have taken effect";
        (String::from(Code::Interrupted), message.to_owned())
    });
    for made in 1.. {
        let ended = match tokio::time::timeout(call.timeout, connector.call(call)).await {
            Ok(ended) => ended,
            Err(_) => {
                let message = format!("no answer within {:?}", call.timeout);
                Attempt::Unknown { code: Code::Timeout.into(), message }
            }
        };
        let failure = match ended {
            Attempt::Succeeded(value) => return (CallResult::Succeeded(value), made),
            Attempt::Failed { code, message } => return (in_doubt(doubt, code, message), made),
            Attempt::NotSent { code, message } => (code, message),
            Attempt::Unknown { code, message } if idempotent => {
                doubt = Some((code.clone(), message.clone()));
                (code, message)
            }
            Attempt::Unknown { code, message } => return (CallResult::InDoubt { code, message }, made),
        };
        match pauses.next() {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return (in_doubt(doubt, failure.0, failure.1), made),
        }
    }
    // The range above has no end.
    (CallResult::InDoubt { code: Code::AttemptsExhausted.into(), message: "attempts ended".into() }, attempts)
}

/// A definite failure counts only where no earlier attempt is in doubt, because that one may have taken effect.
fn in_doubt(doubt: Option<(String, String)>, code: String, message: String) -> CallResult {
    match doubt {
        Some((code, message)) => CallResult::InDoubt { code, message },
        None => CallResult::Failed { code, message },
    }
}
