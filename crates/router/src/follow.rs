//! What follows from stored states: the messages that a committed transaction owes to others.

use countersign_broker::{publisher::Outgoing, topology::EXECUTION};
use countersign_core::ids::ActionId;
use countersign_core::{
    action::State,
    message::{CloudEvent, kind},
    permit::{PACK_MAX, PermitPack},
};
use countersign_store::{StoreError, Transaction, actions, actions::ActionRecord};
use countersign_worker::messages;
use ed25519_dalek::SigningKey;
use serde_json::value::RawValue;

/// Reads the states as this transaction leaves them and says what follows: a request for what is pending,
/// a permit for what is authorised, the outcome of what has ended. The same again for a message that comes
/// again.
pub(crate) async fn stored(
    tx: &Transaction<'_>,
    ids: &[ActionId],
    key: &SigningKey,
) -> Result<Vec<Outgoing>, StoreError> {
    let records = actions::load(tx, ids, false).await?;
    let mut outgoing: Vec<Outgoing> = records.iter().flat_map(told).collect();
    let permits: Vec<Box<RawValue>> = records.iter().filter_map(permit).collect();
    let now = records.first().map(|record| record.now);
    for pack in permits.chunks(PACK_MAX) {
        let pack = PermitPack::sign(pack.to_vec(), key);
        let now = now.unwrap_or_default();
        let event =
            CloudEvent::new(Outgoing::fresh_id(), "/countersign/router", kind::PERMIT_PACK, now, pack);
        outgoing.push(Outgoing::event(EXECUTION, "permits", &event));
    }
    Ok(outgoing)
}

fn told(record: &ActionRecord) -> Vec<Outgoing> {
    match record.ruling.state {
        State::PendingApproval => messages::approval_requests(record),
        _ => messages::outcome(record).into_iter().collect(),
    }
}

fn permit(record: &ActionRecord) -> Option<Box<RawValue>> {
    let bytes = record.permit_bytes.clone()?;
    RawValue::from_string(String::from_utf8(bytes).ok()?).ok()
}
