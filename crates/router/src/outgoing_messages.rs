//! The messages that follow from the states that a transaction stores.

use chrono::{DateTime, Utc};
use countersign_broker::{publisher::Outgoing, topology::EXECUTION};
use countersign_core::ids::ActionId;
use countersign_core::{
    action::State,
    message::{CloudEvent, FeedbackKind, kind},
    permit::{PACK_MAX, PermitPack},
};
use countersign_runtime::messages::{self, FeedbackDetail};
use countersign_store::{
    Pipeline, StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    permits::IssuedPermit,
};
use ed25519_dalek::SigningKey;
use serde_json::{Value, value::RawValue};

/// The actions about which messages are sent when a transaction is committed.
#[derive(Default)]
pub(crate) struct PendingNotifications {
    /// The database's clock.
    pub(crate) now: DateTime<Utc>,
    /// Issued in this transaction: their actions need not be read again.
    pub(crate) permits: Vec<IssuedPermit>,
    /// All other actions.
    pub(crate) others: Vec<ActionId>,
}

impl PendingNotifications {
    pub(crate) fn all(self) -> Vec<ActionId> {
        let Self { permits, mut others, .. } = self;
        others.extend(permits.into_iter().map(|permit| permit.action));
        others
    }
}

/// Executes the last statements of a transaction, commits it, and returns the messages that follow from the stored
/// states: an approval request for a pending action, a permit for an authorised one, the outcome of an ended one. A
/// redelivered message leads to the same messages.
pub(crate) async fn commit(
    tx: Transaction,
    writes: Pipeline<'_>,
    ids: &[ActionId],
    key: &SigningKey,
) -> Result<Vec<Outgoing>, StoreError> {
    Ok(of_records(&actions::commit(tx, writes, ids, LoadDepth::Request).await?, key))
}

/// As [`commit`], after humans have decided, with feedback to the agents.
pub(crate) async fn commit_decided(
    tx: Transaction,
    writes: Pipeline<'_>,
    ids: &[ActionId],
    key: &SigningKey,
) -> Result<Vec<Outgoing>, StoreError> {
    let records = actions::commit(tx, writes, ids, LoadDepth::Request).await?;
    let mut outgoing = of_records(&records, key);
    outgoing.extend(records.iter().filter_map(feedback));
    Ok(outgoing)
}

/// Feedback on a review: why the action was rejected, or the arguments that an edit replaced.
fn feedback(record: &ActionRecord) -> Option<Outgoing> {
    match record.status.state {
        State::Rejected => {
            let error = record.outcome.as_ref()?.error.as_ref()?;
            let (reason_code, rationale) = (Some(error.code.as_str()), Some(error.message.as_str()));
            messages::feedback(
                record,
                FeedbackKind::Rejection,
                &FeedbackDetail { reason_code, rationale, ..FeedbackDetail::default() },
            )
        }
        State::PendingApproval if record.edited.is_some() => {
            let body: Value = serde_json::from_slice(record.body.as_deref()?).ok()?;
            let before = Some(body.pointer("/data/arguments")?);
            messages::feedback(
                record,
                FeedbackKind::Edit,
                &FeedbackDetail { before, ..FeedbackDetail::default() },
            )
        }
        _ => None,
    }
}

fn of_records(records: &[ActionRecord], key: &SigningKey) -> Vec<Outgoing> {
    let mut outgoing: Vec<Outgoing> = records.iter().flat_map(messages_of).collect();
    let ended: Vec<ActionId> =
        records.iter().filter(|record| settled(record)).map(|record| record.id).collect();
    let permits = records.iter().filter_map(|record| raw(record.permit_bytes.clone()?)).collect();
    let now = records.first().map(|record| record.now);
    let now = now.unwrap_or_default();
    outgoing.extend(messages::settled("/countersign/router", &ended, now));
    outgoing.extend(packed(permits, key, now));
    outgoing
}

/// The permits that this transaction has issued, packed for the executor.
pub(crate) fn issued(permits: &[IssuedPermit], key: &SigningKey, now: DateTime<Utc>) -> Vec<Outgoing> {
    packed(permits.iter().filter_map(|permit| raw(permit.bytes.clone())).collect(), key, now)
}

fn packed(permits: Vec<Box<RawValue>>, key: &SigningKey, now: DateTime<Utc>) -> Vec<Outgoing> {
    let pack = |pack: &[Box<RawValue>]| {
        let pack = PermitPack::sign(pack.to_vec(), key);
        let event =
            CloudEvent::new(Outgoing::fresh_id(), "/countersign/router", kind::PERMIT_PACK, now, pack);
        Outgoing::event(EXECUTION, "permits", &event)
    };
    permits.chunks(PACK_MAX).map(pack).collect()
}

/// Whether the sampler must be notified: refused actions are audited as well, and a failed compensation needs a
/// remediation.
fn settled(record: &ActionRecord) -> bool {
    let state = record.status.state;
    let refused = matches!(state, State::Rejected | State::Denied) && record.content.is_some();
    refused || (record.compensates.is_some() && state.outcome().is_some() && !state.executed())
}

fn messages_of(record: &ActionRecord) -> Vec<Outgoing> {
    match record.status.state {
        State::PendingApproval => messages::approval_requests(record),
        _ => messages::outcome(record).into_iter().collect(),
    }
}

fn raw(bytes: Vec<u8>) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(bytes).ok()?).ok()
}
