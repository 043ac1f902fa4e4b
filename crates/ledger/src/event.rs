//! An entry as the CloudEvent of the audit stream.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::LedgerError;

/// The type of the CloudEvent that carries an entry.
pub const EVENT_TYPE: &str = "countersign.evidence.v1";

/// The members of an entry that its event repeats. The others are not parsed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    occurred_at: Cow<'a, str>,
}

/// An entry as an event: `sequence` is its index, padded so that it sorts as text, as the CloudEvents extension of that
/// name requires.
pub fn cloud_event(index: u64, entry: &[u8]) -> Result<Vec<u8>, LedgerError> {
    let known: Known<'_> = serde_json::from_slice(entry)
        .map_err(|error| LedgerError::Tile { path: format!("entry {index}"), reason: error.to_string() })?;
    let head = json!({
        "specversion": "1.0", "id": known.id, "source": "/countersign/recorder", "type": EVENT_TYPE,
        "time": known.occurred_at, "datacontenttype": "application/json", "sequence": format!("{index:016}"),
    });
    let mut event = head.to_string().into_bytes();
    // The entry byte for byte: whoever hashes the canonical form of `data` has the leaf.
    event.pop();
    event.extend(b",\"data\":");
    event.extend(entry);
    event.push(b'}');
    Ok(event)
}

/// The members of an event that are parsed.
#[derive(Debug, Deserialize)]
pub struct Sequenced<'a> {
    /// The index of its entry in the ledger.
    #[serde(borrow)]
    pub sequence: Cow<'a, str>,
    /// The entry.
    #[serde(borrow)]
    pub data: &'a RawValue,
}

impl Sequenced<'_> {
    /// The index as a number.
    pub fn index(&self) -> Result<u64, LedgerError> {
        let digits = self.sequence.bytes().all(|byte| byte.is_ascii_digit());
        let index = self.sequence.parse().ok().filter(|_| digits);
        index.ok_or_else(|| LedgerError::Event(format!("the sequence {:?} is not an index", self.sequence)))
    }
}

/// The events of a message, which is a JSON array of them. There may be none.
pub fn events(message: &[u8]) -> Result<Vec<Sequenced<'_>>, LedgerError> {
    read(message)
}

/// The events of a message as they were written.
pub fn texts(message: &[u8]) -> Result<Vec<&RawValue>, LedgerError> {
    read(message)
}

/// Checks the encoding first: serde_json does not check it in members that it skips.
fn read<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, LedgerError> {
    let text = std::str::from_utf8(message).map_err(|error| LedgerError::Event(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| LedgerError::Event(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_of_an_entry_carries_its_bytes_and_its_index() {
        let entry = r#"{"id":"e","kind":"hold.placed","occurred_at":"2026-01-01T00:00:00Z"}"#;
        let event = cloud_event(12, entry.as_bytes()).unwrap();
        let message = [b"[", event.as_slice(), b"]"].concat();
        let read = events(&message).unwrap();
        assert_eq!((read.len(), read[0].sequence.as_ref()), (1, "0000000000000012"));
        assert_eq!((read[0].index(), read[0].data.get()), (Ok(12), entry));
        assert_eq!(texts(&message).unwrap()[0].get().as_bytes(), event);
    }

    #[test]
    fn invalid_utf_8_is_refused_even_in_members_that_are_not_parsed() {
        let message = b"[{\"source\":\"\xe5\",\"sequence\":\"0\",\"data\":{}}]";
        assert!(events(message).is_err() && texts(message).is_err());
    }

    #[test]
    fn a_sequence_that_is_not_an_index_is_refused() {
        for sequence in ["", "+1", "-1", "1.5", "one", "99999999999999999999999"] {
            let event = format!(r#"[{{"sequence":"{sequence}","data":{{}}}}]"#);
            assert!(events(event.as_bytes()).unwrap()[0].index().is_err(), "{sequence:?}");
        }
    }
}
