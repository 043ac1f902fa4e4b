//! Who sent a decision, and who signed it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use countersign_broker::lane::Delivery;
use countersign_core::{
    config::{Directory, KeyRefusal, Member, PublicKey, Sender},
    json::parse_strict,
    message::{CloudEvent, DecisionData, kind},
    refusal::{Code, Complaint},
    signed::{DECISIONS_MAX, Received, SignedDecisions},
};
use countersign_store::statements::Statement;
use serde_json::Value;

use crate::author;

/// How far a signer's clock may be ahead of the database's.
const AHEAD: TimeDelta = TimeDelta::minutes(1);

/// The longest id of an event, in bytes.
const ID_MAX: usize = 256;

fn plain(text: &str) -> bool {
    (1..=ID_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A message that says what is to be decided, whoever it is that says so.
pub(super) struct Heard<'a> {
    pub(super) sender: Sender<'a>,
    pub(super) event: String,
    pub(super) decisions: Vec<DecisionData>,
    pub(super) vouched: Result<Vouched<'a>, Complaint>,
}

/// A statement whose signature holds.
pub(super) struct Vouched<'a> {
    pub(super) reviewer: &'a Member,
    key: &'a PublicKey,
    /// As it is to be recorded, without what became of it.
    pub(super) statement: Statement,
}

/// A message in which no decision can be found.
pub(super) struct Unreadable<'a> {
    pub(super) sender: Option<Sender<'a>>,
    pub(super) event: Option<String>,
    pub(super) complaint: Complaint,
}

/// Reads a message and checks its signature. What depends on the time is left to [`Vouched::in_time`].
pub(super) fn hear<'a>(
    delivery: &Delivery,
    directory: &'a Directory,
    max_bytes: usize,
) -> Result<Heard<'a>, Unreadable<'a>> {
    let anonymous = |complaint| Unreadable { sender: None, event: None, complaint };
    let user = author::of(delivery).map_err(anonymous)?;
    let sender =
        directory.sender_of_user(user).ok_or_else(|| anonymous(author::unknown(user, "reviewer or app")))?;
    let unreadable = |event: Option<&str>, code, why| Unreadable {
        sender: Some(sender),
        event: event.map(str::to_owned),
        complaint: (code, why),
    };
    if delivery.body.len() > max_bytes {
        return Err(unreadable(None, Code::MessageTooLarge, format!("the limit is {max_bytes} bytes")));
    }
    let value =
        parse_strict(&delivery.body).map_err(|error| unreadable(None, error.code(), error.to_string()))?;
    let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
    let event: CloudEvent<Value> = serde_json::from_value(value)
        .map_err(|error| unreadable(id.as_deref(), Code::InvalidDecision, error.to_string()))?;
    if event.kind != kind::APPROVAL_DECIDED {
        let why = format!("the type is {:?}; send {:?}", event.kind, kind::APPROVAL_DECIDED);
        return Err(unreadable(Some(&event.id), Code::UnknownType, why));
    }
    if !plain(&event.id) {
        let why = format!("`id` must have 1 to {ID_MAX} bytes and no control characters");
        return Err(unreadable(None, Code::InvalidDecision, why));
    }
    if event.data.get("jws").is_none()
        && let Ok(decision) = serde_json::from_value::<DecisionData>(event.data.clone())
    {
        let why = "sign it: `data` is `jws` and `disclosures`".into();
        let (decisions, vouched) = (vec![decision], Err((Code::Unsigned, why)));
        return Ok(Heard { sender, event: event.id, decisions, vouched });
    }
    let received = serde_json::from_value::<SignedDecisions>(event.data)
        .map_err(|error| error.to_string())
        .and_then(|signed| Received::read(&signed).map_err(|error| error.to_string()))
        .map_err(|why| unreadable(Some(&event.id), Code::InvalidDecision, why))?;
    let given = received.decisions.len();
    if given == 0 {
        let why = format!("a statement has 1 to {DECISIONS_MAX} decisions");
        return Err(unreadable(Some(&event.id), Code::DecisionCount, why));
    }
    let decisions: Vec<DecisionData> = received.decisions.iter().take(DECISIONS_MAX).cloned().collect();
    let vouched = vouch(received, sender, directory, &event.id);
    Ok(Heard { sender, event: event.id, decisions, vouched })
}

/// Believes a statement that a registered key has signed, brought by somebody who may bring it.
fn vouch<'a>(
    received: Received,
    sender: Sender<'a>,
    directory: &'a Directory,
    event: &str,
) -> Result<Vouched<'a>, Complaint> {
    let Some(reviewer) = directory.reviewer(&received.reviewer) else {
        return Err((Code::ReviewerUnknown, "the statement's reviewer is nobody in the directory".into()));
    };
    if !sender.speaks_for(&reviewer.id) {
        let why = format!("{:?} may not bring what {:?} decides", sender.id(), reviewer.id);
        return Err((Code::NotSpokenFor, why));
    }
    let mut keys = reviewer.public_keys.iter().chain(sender.keys());
    let key = keys
        .find(|key| key.kid == received.kid)
        .ok_or_else(|| (Code::KeyUnknown, format!("the directory has no such key for {:?}", reviewer.id)))?;
    if !received.verify(&key.key) {
        return Err((Code::SignatureInvalid, "the key has not signed these bytes".into()));
    }
    if received.decisions.len() > DECISIONS_MAX {
        let why = format!("{} decisions; a statement has 1 to {DECISIONS_MAX}", received.decisions.len());
        return Err((Code::DecisionCount, why));
    }
    if !received.disclosed {
        let why = "send every reason and argument of which the payload has a digest".into();
        return Err((Code::Undisclosed, why));
    }
    let statement = Statement {
        kid: received.kid,
        jti: received.jti,
        event: event.into(),
        sender: sender.id().into(),
        reviewer: received.reviewer,
        jws: received.jws,
        disclosures: received.disclosures,
        signed_at: received.signed_at,
        actions: vec![],
        answers: vec![],
    };
    Ok(Vouched { reviewer, key, statement })
}

impl Vouched<'_> {
    /// Whether key and statement count at `now`, the database's clock.
    pub(super) fn in_time(&self, now: DateTime<Utc>, oldest: Duration) -> Result<(), Complaint> {
        self.key.counts_at(now).map_err(|refusal| match refusal {
            KeyRefusal::Revoked => (Code::KeyRevoked, "the key has been revoked".to_owned()),
            KeyRefusal::NotValid => (Code::KeyNotValid, "the key is not valid yet, or no longer".to_owned()),
        })?;
        let age = now.signed_duration_since(self.statement.signed_at);
        if age < -AHEAD {
            return Err((Code::SignedInFuture, "`iat` is later than now: is the clock right?".into()));
        }
        if age > TimeDelta::from_std(oldest).unwrap_or(TimeDelta::MAX) {
            let why = format!("it was signed more than {oldest:?} ago: look again, and sign anew");
            return Err((Code::Stale, why));
        }
        Ok(())
    }
}
