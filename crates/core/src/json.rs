//! Strict JSON at the trust boundary.
//!
//! What a human approves is bound by a digest over the RFC 8785 canonical form. That form rounds
//! integers beyond 2^53 and a lenient parser keeps one of two equal keys, so two different payloads
//! could share a digest. Both are refused here, before a message is processed further. An accepted value reads
//! the same as its canonical form, so that policy evaluates exactly what the reviewer sees and the tool receives.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::refusal::Code;

/// How many arrays and objects may be open at once.
pub const MAX_DEPTH: usize = 64;

/// The largest integer that JSON carries exactly: 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// serde_json treats an object whose first key has this prefix specially: it parses the value of
/// `$serde_json::private::RawValue` as JSON of its own. Parsed a second time, content with such a key would differ
/// from what was approved.
const RESERVED: &str = "$serde_json::private::";

/// Why a message's JSON is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonRefusal {
    /// The bytes are not one JSON value in UTF-8.
    #[error("not JSON: {message}; send exactly one JSON value in UTF-8")]
    NotJson {
        /// The parser's complaint, with line and column.
        message: String,
    },
    /// An object has the same key twice.
    #[error("the key {key:?} occurs twice in one object; send each key once")]
    DuplicateKey {
        /// The repeated key, shortened.
        key: String,
    },
    /// A key that a JSON library reserves for itself.
    #[error("keys that begin with {RESERVED:?} are reserved; rename the key")]
    ReservedKey,
    /// A number that different parsers may read as different values.
    #[error("the number {number} is beyond ±(2^53-1), where JSON loses digits; send it as a string")]
    IntegerOutOfRange {
        /// The number as parsed.
        number: String,
    },
    /// More levels of arrays and objects than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels; flatten the value")]
    NestedTooDeeply,
}

impl JsonRefusal {
    /// The machine-readable reason in the quarantine and in outcomes.
    pub fn code(&self) -> Code {
        match self {
            Self::NotJson { .. } => Code::NotJson,
            Self::DuplicateKey { .. } => Code::DuplicateKey,
            Self::ReservedKey => Code::ReservedKey,
            Self::IntegerOutOfRange { .. } => Code::IntegerOutOfRange,
            Self::NestedTooDeeply => Code::NestedTooDeeply,
        }
    }
}

/// Parses exactly one JSON value.
///
/// # Errors
/// If the bytes are not JSON, an object has a duplicate or reserved key, a number has a magnitude of 2^53 or more, or
/// the value is nested deeper than [`MAX_DEPTH`].
pub fn parse_strict(bytes: &[u8]) -> Result<Value, JsonRefusal> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonRefusal::NotJson { message: format!("not UTF-8: {error}") })?;
    let refusal = Cell::new(None);
    let mut parser = serde_json::Deserializer::from_str(text);
    let parsed = Strict { depth: 0, refusal: &refusal }
        .deserialize(&mut parser)
        .and_then(|value| parser.end().map(|()| value));
    parsed.map_err(|error| refusal.take().unwrap_or_else(|| from_parser(&error)))
}

/// The RFC 8785 canonical form.
///
/// # Errors
/// [`JsonRefusal::NotJson`] if the value cannot be written (values from [`parse_strict`] can).
pub fn canonical(value: &Value) -> Result<Vec<u8>, JsonRefusal> {
    let write = if plain(value) { serde_json::to_vec } else { serde_json_canonicalizer::to_vec };
    write(value).map_err(|error| JsonRefusal::NotJson { message: error.to_string() })
}

/// Whether the output of serde_json is already canonical, which is much faster: the keys are in order, by UTF-16 as
/// well, and ECMAScript writes the numbers in the same way.
fn plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) if number.is_f64() => {
            let plain = |number: f64| number.fract() != 0.0 && (1e-5..1e15).contains(&number.abs());
            number.as_f64().is_some_and(plain)
        }
        Value::Number(number) => number.as_i64().is_some_and(|it| it.unsigned_abs() <= MAX_INTEGER),
        Value::Array(items) => items.iter().all(plain),
        Value::Object(members) => {
            members.keys().is_sorted() && members.iter().all(|(key, value)| key.is_ascii() && plain(value))
        }
    }
}

/// The top-level strings `source` and `id` of a message that may be refused for other reasons, so that its sender can
/// be answered. `None` if they are missing, not strings, or duplicated.
pub fn envelope_ids(bytes: &[u8]) -> Option<(String, String)> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let ids = parser.deserialize_map(EnvelopeIds).ok()?;
    parser.end().ok()?;
    Some(ids)
}

/// serde_json reports a number too large for a double as a syntax error with this text.
fn from_parser(error: &serde_json::Error) -> JsonRefusal {
    let message = error.to_string();
    if message.starts_with("number out of range") {
        return JsonRefusal::IntegerOutOfRange { number: message };
    }
    JsonRefusal::NotJson { message }
}

/// Parses one value at a given depth. The refusal is kept beside serde's error, which carries only text.
#[derive(Clone, Copy)]
struct Strict<'r> {
    depth: usize,
    refusal: &'r Cell<Option<JsonRefusal>>,
}

impl Strict<'_> {
    fn refuse<E: serde::de::Error>(self, refusal: JsonRefusal) -> E {
        let error = E::custom(&refusal);
        self.refusal.set(Some(refusal));
        error
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.refuse(JsonRefusal::NestedTooDeeply));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn integer<E: serde::de::Error>(self, magnitude: u64, number: Number) -> Result<Value, E> {
        if magnitude > MAX_INTEGER {
            return Err(self.refuse(JsonRefusal::IntegerOutOfRange { number: number.to_string() }));
        }
        Ok(Value::Number(number))
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.integer(value.unsigned_abs(), value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.integer(value, value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // From 2^53 on, every double is a whole number and also stands for its neighbours.
        match Number::from_f64(value) {
            // As in the canonical form: 5.0 is 5, and -0.0 is 0. As integers and floats they would divide differently.
            Some(_) if value.fract() == 0.0 && value.abs() <= MAX_INTEGER as f64 => {
                Ok(Value::Number((value as i64).into()))
            }
            Some(number) if value.abs() <= MAX_INTEGER as f64 => Ok(Value::Number(number)),
            _ => Err(self.refuse(JsonRefusal::IntegerOutOfRange { number: value.to_string() })),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key.starts_with(RESERVED) {
                return Err(self.refuse(JsonRefusal::ReservedKey));
            }
            if object.contains_key(&key) {
                return Err(self.refuse(JsonRefusal::DuplicateKey { key: key.chars().take(64).collect() }));
            }
            let value = entries.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

struct EnvelopeIds;

impl<'de> Visitor<'de> for EnvelopeIds {
    type Value = (String, String);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with the strings source and id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let (mut source, mut id) = (None, None);
        while let Some(key) = entries.next_key::<String>()? {
            let slot = match key.as_str() {
                "source" => &mut source,
                "id" => &mut id,
                _ => {
                    // Skipped without recursion, so depth does not matter here.
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if slot.replace(entries.next_value::<String>()?).is_some() {
                return Err(A::Error::custom("ambiguous: given twice"));
            }
        }
        source.zip(id).ok_or_else(|| A::Error::custom("source or id is missing"))
    }
}

#[cfg(test)]
mod tests;
