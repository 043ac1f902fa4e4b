//! Agents' messages, decoded once before anything else is done with them. Whether the author may send them is checked
//! in the transaction, under the active generation's directory.

use countersign_broker::lane::Delivery;
use countersign_core::{
    ids::ActionRef,
    json::parse_strict,
    message::{CancelData, CloudEvent, kind},
    proposal::{self, Proposal, Refusal},
    refusal::{Code, Complaint},
};
use serde_json::Value;

/// A delivery with what it contains.
pub(crate) struct Inbound<'a> {
    pub(crate) delivery: &'a Delivery,
    pub(crate) message: Message,
}

/// What an agent's message contains.
pub(crate) enum Message {
    Proposal(Box<Proposal>),
    /// The withdrawal of an action, or why it cannot be read.
    Cancellation(Result<Box<CloudEvent<CancelData>>, Complaint>),
    /// Anything else, or an unreadable proposal.
    Refused(Refusal),
}

impl<'a> Inbound<'a> {
    /// Decodes a delivery; a proposal may have `max_bytes`.
    pub(crate) fn decode(delivery: &'a Delivery, max_bytes: usize) -> Self {
        Self { delivery, message: Message::decode(&delivery.body, max_bytes) }
    }

    /// The action that it proposes.
    pub(crate) fn proposes(&self) -> Option<&ActionRef> {
        match &self.message {
            Message::Proposal(proposal) => Some(&proposal.reference),
            Message::Cancellation(_) | Message::Refused(_) => None,
        }
    }
}

impl Message {
    fn decode(body: &[u8], max_bytes: usize) -> Self {
        if let Err(refusal) = proposal::check_size(body, max_bytes)
            && !names_cancellation(body)
        {
            return Self::Refused(refusal);
        }
        let event = match parse_strict(body) {
            Ok(event) => event,
            Err(error) if names_cancellation(body) => {
                return Self::Cancellation(Err((error.code(), error.to_string())));
            }
            Err(error) => return Self::Refused(Refusal::unreadable(body, error.code(), error.to_string())),
        };
        if event.get("type").and_then(Value::as_str) == Some(kind::CANCELLED) {
            let event = serde_json::from_value(event).map(Box::new);
            return Self::Cancellation(event.map_err(|error| (Code::InvalidCancellation, error.to_string())));
        }
        match proposal::from_event(event) {
            Ok(proposal) => Self::Proposal(Box::new(proposal)),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

/// Whether an otherwise unreadable message has the type of a cancellation.
fn names_cancellation(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope {
        #[serde(rename = "type")]
        kind: String,
    }
    serde_json::from_slice::<Envelope>(body).is_ok_and(|envelope| envelope.kind == kind::CANCELLED)
}

#[cfg(test)]
mod tests;
