//! Who sent a message: the user that the broker validated, never a field in the body.

use countersign_broker::lane::Delivery;
use countersign_core::refusal::{Code, Complaint};

/// The validated AMQP user of a message.
///
/// # Errors
/// Where it has none, or has CC or BCC headers.
pub fn of(delivery: &Delivery) -> Result<&str, Complaint> {
    if delivery.copied {
        let why = "CC and BCC headers bypass topic permissions; publish without them".into();
        return Err((Code::Copied, why));
    }
    delivery
        .author
        .as_deref()
        .ok_or_else(|| (Code::AuthorMissing, "set the AMQP property user_id to your own user".into()))
}

/// The complaint about an author who is not in the directory.
pub fn unknown(user: &str, role: &str) -> Complaint {
    (Code::AuthorUnknown, format!("the AMQP user {user:?} does not belong to any {role} in the directory"))
}
