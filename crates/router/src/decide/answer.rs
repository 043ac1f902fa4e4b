//! Answers to the sender of a decision.

use chrono::{DateTime, Utc};
use countersign_broker::{publisher::Outgoing, topology::ANSWERS};
use countersign_core::{
    message::{ApprovalAnswer, CloudEvent, kind},
    refusal::Complaint,
};
use uuid::Uuid;

/// The answer to a message without a readable decision.
pub(super) fn unreadable(event: Option<String>, (code, message): Complaint) -> ApprovalAnswer {
    ApprovalAnswer { event, ..ApprovalAnswer::refused(code, message) }
}

/// The answers to one message. Repeated answers have the same ids, so that a consumer can drop duplicates.
pub(super) fn messages(sender: &str, answers: &[ApprovalAnswer], now: DateTime<Utc>) -> Vec<Outgoing> {
    let message = |(index, answer): (usize, &ApprovalAnswer)| {
        let id = match &answer.event {
            Some(event) => {
                let text = serde_json::to_string(answer).unwrap_or_default();
                let name = format!("{kind}:{sender}:{event}:{index}:{text}", kind = kind::APPROVAL_ANSWERED);
                Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
            }
            None => Outgoing::fresh_id(),
        };
        let event = CloudEvent::new(id, "/countersign", kind::APPROVAL_ANSWERED, now, answer);
        Outgoing::event(ANSWERS, sender, &event)
    };
    answers.iter().enumerate().map(message).collect()
}
