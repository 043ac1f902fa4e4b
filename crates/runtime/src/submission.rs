//! Decisions and findings as they are submitted: who sent them, who signed them, and whether they are repetitions.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use countersign_broker::lane::Delivery;
use countersign_core::{
    evidence::{Signature, SignedWith},
    ids::{NAME_MAX, is_name},
    json::parse_strict,
    keyed::Pseudonyms,
    message::{CloudEvent, DecisionData, FindingData, kind},
    refusal::{Code, Complaint},
    signed::{DECISIONS_MAX, Received, Signable, SignedStatement, statement_digest},
};
use countersign_policy::{Directory, KeyRefusal, Member, PublicKey, Sender};
use countersign_store::{
    StoreError, Transaction,
    statements::{self, Statement},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::author;

/// How far a signer's clock may be ahead of the database's.
const AHEAD: TimeDelta = TimeDelta::minutes(1);

/// What people submit, signed.
pub trait Submittable: Signable + Clone + DeserializeOwned {
    /// The event's type.
    const KIND: &'static str;
    /// The role that may send it, for messages.
    const ROLE: &'static str;
    /// The code for a message that cannot be read.
    const INVALID: Code;
    /// The code for a signer who is not in the directory.
    const UNKNOWN: Code;
    /// The member or app that the AMQP user belongs to.
    fn sender<'d>(directory: &'d Directory, amqp_user: &str) -> Option<Sender<'d>>;
    /// The member with this id, if it may sign.
    fn signer<'d>(directory: &'d Directory, id: &str) -> Option<&'d Member>;
}

impl Submittable for DecisionData {
    const KIND: &'static str = kind::APPROVAL_DECIDED;
    const ROLE: &'static str = "reviewer or app";
    const INVALID: Code = Code::InvalidDecision;
    const UNKNOWN: Code = Code::ReviewerUnknown;

    fn sender<'d>(directory: &'d Directory, amqp_user: &str) -> Option<Sender<'d>> {
        directory.sender_of_user(amqp_user)
    }

    fn signer<'d>(directory: &'d Directory, id: &str) -> Option<&'d Member> {
        directory.reviewer(id)
    }
}

impl Submittable for FindingData {
    const KIND: &'static str = kind::AUDIT_FINDING;
    const ROLE: &'static str = "auditor";
    const INVALID: Code = Code::InvalidFinding;
    const UNKNOWN: Code = Code::AuditorUnknown;

    fn sender<'d>(directory: &'d Directory, amqp_user: &str) -> Option<Sender<'d>> {
        directory.auditor_of_user(amqp_user).map(Sender::Auditor)
    }

    fn signer<'d>(directory: &'d Directory, id: &str) -> Option<&'d Member> {
        directory.auditor(id)
    }
}

/// A message with decisions or findings, authenticated or not.
pub struct Submission<'a, T> {
    /// Who sent it.
    pub sender: Sender<'a>,
    /// The event's id.
    pub event: String,
    /// The decisions or findings.
    pub entries: Vec<T>,
    /// The verified signer, or why the message is refused.
    pub authenticated: Result<Authenticated<'a>, Complaint>,
}

/// A statement whose signature is valid.
pub struct Authenticated<'a> {
    /// Who signed it.
    pub signer: &'a Member,
    key: &'a PublicKey,
    /// The statement to be recorded, its results still empty.
    pub statement: Statement,
    corrections: Vec<Option<String>>,
}

/// A message without any decision or finding that could be answered.
pub struct Unreadable<'a> {
    /// Who sent it, where that is known.
    pub sender: Option<Sender<'a>>,
    /// The event's id, where it can be read.
    pub event: Option<String>,
    /// What is wrong.
    pub complaint: Complaint,
}

/// Reads a message and checks its signature. What depends on the time is left to [`Authenticated::in_time`].
///
/// # Errors
/// Where nothing in it can be answered one by one: no author, no event, or no statement.
pub fn authenticate<'a, T: Submittable>(
    delivery: &Delivery,
    directory: &'a Directory,
    max_bytes: usize,
) -> Result<Submission<'a, T>, Unreadable<'a>> {
    let anonymous = |complaint| Unreadable { sender: None, event: None, complaint };
    let user = author::of(delivery).map_err(anonymous)?;
    let sender = T::sender(directory, user).ok_or_else(|| anonymous(author::unknown(user, T::ROLE)))?;
    let unreadable = |event: Option<&str>, code, why| Unreadable {
        sender: Some(sender),
        event: event.map(str::to_owned),
        complaint: (code, why),
    };
    if delivery.body.len() > max_bytes {
        return Err(unreadable(
            None,
            Code::MessageTooLarge,
            format!("the message exceeds the limit of {max_bytes} bytes"),
        ));
    }
    let value =
        parse_strict(&delivery.body).map_err(|error| unreadable(None, error.code(), error.to_string()))?;
    let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
    let event: CloudEvent<Value> = serde_json::from_value(value)
        .map_err(|error| unreadable(id.as_deref(), T::INVALID, error.to_string()))?;
    if event.kind != T::KIND {
        let why = format!("the type is {:?}; it must be {:?}", event.kind, T::KIND);
        return Err(unreadable(Some(&event.id), Code::UnknownType, why));
    }
    if !is_name(&event.id) {
        let why = format!("`id` must have 1 to {NAME_MAX} bytes and no control characters");
        return Err(unreadable(None, T::INVALID, why));
    }
    if event.data.get("jws").is_none()
        && let Ok(one) = serde_json::from_value::<T>(event.data.clone())
    {
        let why = "it is not signed: `data` must have `jws` and `disclosures`".into();
        let (entries, authenticated) = (vec![one], Err((Code::Unsigned, why)));
        return Ok(Submission { sender, event: event.id, entries, authenticated });
    }
    let received = serde_json::from_value::<SignedStatement>(event.data)
        .map_err(|error| error.to_string())
        .and_then(|signed| Received::<T>::read(&signed).map_err(|error| error.to_string()))
        .map_err(|why| unreadable(Some(&event.id), T::INVALID, why))?;
    if received.entries.is_empty() {
        let why = format!("a statement must have 1 to {DECISIONS_MAX} entries");
        return Err(unreadable(Some(&event.id), Code::DecisionCount, why));
    }
    let entries: Vec<T> = received.entries.iter().take(DECISIONS_MAX).cloned().collect();
    let authenticated = verify(received, sender, directory, &event.id);
    Ok(Submission { sender, event: event.id, entries, authenticated })
}

/// Verifies that a registered key has signed the statement and that the sender may submit it for the signer.
fn verify<'a, T: Submittable>(
    received: Received<T>,
    sender: Sender<'a>,
    directory: &'a Directory,
    event: &str,
) -> Result<Authenticated<'a>, Complaint> {
    let Some(signer) = T::signer(directory, &received.signer) else {
        return Err((T::UNKNOWN, "the signer is not in the directory".into()));
    };
    if !sender.speaks_for(&signer.id) {
        let why = format!("{:?} may not submit what {:?} has signed", sender.id(), signer.id);
        return Err((Code::NotSpokenFor, why));
    }
    let mut keys = signer.public_keys.iter().chain(sender.keys());
    let key = keys.find(|key| key.kid == received.kid).ok_or_else(|| {
        (Code::KeyUnknown, format!("the directory has no key with this `kid` for {:?}", signer.id))
    })?;
    if !received.verify(&key.key) {
        return Err((Code::SignatureInvalid, "the signature does not match the key and the payload".into()));
    }
    if received.entries.len() > DECISIONS_MAX {
        let why =
            format!("it has {} entries; a statement must have 1 to {DECISIONS_MAX}", received.entries.len());
        return Err((Code::DecisionCount, why));
    }
    if !received.disclosed {
        let why = "a disclosure is missing: send one for every digest in the payload".into();
        return Err((Code::Undisclosed, why));
    }
    let statement = Statement {
        kid: received.kid,
        jti: received.jti,
        event: event.into(),
        sender: sender.id().into(),
        reviewer: received.signer,
        jws: received.jws,
        disclosures: received.disclosures,
        signed_at: received.signed_at,
        actions: vec![],
        shown: vec![],
        answers: vec![],
    };
    Ok(Authenticated { signer, key, statement, corrections: received.corrections })
}

impl Authenticated<'_> {
    /// Evidence of who signed the entry at `index`, with which key, in which statement, and the digest of its correction.
    pub fn signature(&self, index: usize, pseudonyms: &Pseudonyms) -> Signature {
        let Statement { kid, jti, signed_at, jws, .. } = &self.statement;
        Signature {
            by: pseudonyms.of(&self.signer.id),
            signed: SignedWith {
                kid: kid.clone(),
                jti: jti.clone(),
                at: *signed_at,
                digest: statement_digest(jws),
            },
            correction_digest: self.corrections.get(index).cloned().flatten(),
        }
    }

    /// Checks key and statement against `now`, the database's clock.
    ///
    /// # Errors
    /// Where the key is revoked or not valid then, or the statement is too old or from the future.
    pub fn in_time(&self, now: DateTime<Utc>, oldest: Duration) -> Result<(), Complaint> {
        self.key.check_validity(now).map_err(|refusal| match refusal {
            KeyRefusal::Revoked => (Code::KeyRevoked, "the key has been revoked".to_owned()),
            KeyRefusal::NotValid => (Code::KeyNotValid, "the key is not valid at this time".to_owned()),
        })?;
        let age = now.signed_duration_since(self.statement.signed_at);
        if age < -AHEAD {
            return Err((Code::SignedInFuture, "`iat` is in the future; check the signer's clock".into()));
        }
        if age > TimeDelta::from_std(oldest).unwrap_or(TimeDelta::MAX) {
            let why = format!("it was signed more than {oldest:?} ago; review it again and sign it again");
            return Err((Code::Stale, why));
        }
        Ok(())
    }
}

/// Separates new submissions from repetitions and replays: a key's `jti` counts once. Returns the new ones, which include
/// replays as refused, and the recorded statements of repetitions, which are answered as they were the first time.
pub async fn deduplicate<'a, T>(
    tx: &Transaction,
    submissions: Vec<Submission<'a, T>>,
) -> Result<(Vec<Submission<'a, T>>, Vec<Statement>), StoreError> {
    let key = |statement: &Statement| (statement.kid.clone(), statement.jti.clone());
    let authenticated = submissions.iter().filter_map(|submission| submission.authenticated.as_ref().ok());
    let keys: Vec<(&str, &str)> = authenticated
        .map(|authenticated| (authenticated.statement.kid.as_str(), authenticated.statement.jti.as_str()))
        .collect();
    let before = statements::known(tx, &keys).await?;
    let recorded: HashSet<_> = before.iter().map(key).collect();
    let mut known: HashMap<_, Statement> = before.into_iter().map(|before| (key(&before), before)).collect();
    let (mut new, mut repeated) = (Vec::with_capacity(submissions.len()), Vec::new());
    for mut submission in submissions {
        let Ok(Authenticated { statement, .. }) = &submission.authenticated else {
            new.push(submission);
            continue;
        };
        let id = key(statement);
        match known.get(&id) {
            None => {
                known.insert(id, statement.clone());
                new.push(submission);
            }
            // A duplicate within the batch: only the first is answered.
            Some(before) if before.is_repeated_by(statement) => {
                repeated.extend(recorded.contains(&id).then(|| before.clone()));
            }
            Some(_) => {
                let why = "this `jti` has been used before: sign again with a new one".into();
                submission.authenticated = Err((Code::Replayed, why));
                new.push(submission);
            }
        }
    }
    Ok((new, repeated))
}
