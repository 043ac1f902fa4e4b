//! What a message's sender has written around its body. The broker checks little of it: anything may stand there.
//!
//! lapin's parser leaves marks where it could not read something, see `vendor/amq-protocol-types`.

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable, ShortString},
};

/// Stands in a string for bytes that are not UTF-8.
const REPLACEMENT: char = '\u{FFFD}';

/// Whether a message has CC or BCC headers, which bypass topic permissions.
pub(crate) fn copied(properties: &BasicProperties) -> bool {
    let copies = |key: &ShortString| ["cc", "bcc"].iter().any(|copy| key.as_str().eq_ignore_ascii_case(copy));
    properties.headers().as_ref().is_some_and(|headers| headers.inner().keys().any(copies))
}

/// Why a message's properties or headers cannot be read as they were sent, if they cannot.
pub(crate) fn unreadable(delivery: &Delivery) -> Option<String> {
    let properties = &delivery.properties;
    let strings = [
        ("routing key", Some(&delivery.routing_key)),
        ("exchange", Some(&delivery.exchange)),
        ("content_type", properties.content_type().as_ref()),
        ("content_encoding", properties.content_encoding().as_ref()),
        ("correlation_id", properties.correlation_id().as_ref()),
        ("reply_to", properties.reply_to().as_ref()),
        ("expiration", properties.expiration().as_ref()),
        ("message_id", properties.message_id().as_ref()),
        ("type", properties.kind().as_ref()),
        ("user_id", properties.user_id().as_ref()),
        ("app_id", properties.app_id().as_ref()),
        ("cluster_id", properties.cluster_id().as_ref()),
    ];
    let garbled = strings.into_iter().find(|(_, text)| text.is_some_and(is_garbled));
    if let Some((name, _)) = garbled {
        return Some(format!("the {name} is not UTF-8"));
    }
    let headers = properties.headers().as_ref();
    headers.is_some_and(is_unreadable).then(|| {
        "the headers are nested too deeply, or hold a name that is not UTF-8 or a value of an unknown type".into()
    })
}

fn is_garbled(text: &ShortString) -> bool {
    text.as_str().contains(REPLACEMENT)
}

fn is_unreadable(table: &FieldTable) -> bool {
    table.inner().iter().any(|(key, value)| is_garbled(key) || is_unreadable_value(value))
}

/// Parsed values are nested within the parser's limit, so this recursion is bounded.
fn is_unreadable_value(value: &AMQPValue) -> bool {
    match value {
        // No sender can write one: this is the parser's mark.
        AMQPValue::ShortString(_) => true,
        AMQPValue::FieldTable(table) => is_unreadable(table),
        AMQPValue::FieldArray(array) => array.as_slice().iter().any(is_unreadable_value),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
