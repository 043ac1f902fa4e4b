//! Who sent a message: the user that the broker validated, never a field in the body.

use countersign_broker::lane::Delivery;

/// Why a message has no author that counts.
pub(crate) type Anonymous = (&'static str, String);

/// The validated AMQP user of a message.
pub(crate) fn of(delivery: &Delivery) -> Result<&str, Anonymous> {
    if delivery.copied {
        let why = "CC and BCC headers get around topic permissions; publish without them".into();
        return Err(("copied", why));
    }
    delivery
        .author
        .as_deref()
        .ok_or_else(|| ("author_missing", "set the AMQP property user_id to your own user".into()))
}

/// An author who is in no directory.
pub(crate) fn unknown(user: &str, role: &str) -> Anonymous {
    ("author_unknown", format!("the AMQP user {user:?} is no {role} of the directory"))
}
