//! An attempt to call a tool, and what the tool's answer says of its effect.

use crate::refusal::Code;
use serde::Deserialize;
use serde_json::Value;

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// Done, with this answer.
    Succeeded(Value),
    /// The tool refused: it did not act, and asking again will not help.
    Failed {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// Nothing was sent, or the tool said that it did nothing: asking again is safe for any tool.
    NotSent {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// It was sent, and there is no definite answer.
    Unknown {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// So many characters of a refusal are kept.
const SAID_MAX: usize = 500;

/// What a tool service replies over AMQP.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Reply {
    Succeeded {
        #[serde(default)]
        result: Value,
    },
    Failed {
        code: String,
        #[serde(default)]
        message: String,
    },
}

impl Attempt {
    /// What an HTTP response says, by its status and that status' name: 2xx is done, 429 was not taken in (RFC 6585), after 5xx
    /// nobody knows what went wrong inside, and all else is a refusal.
    pub fn of_http(status: u16, name: &str, body: &[u8]) -> Self {
        if status / 100 == 2 {
            return Self::Succeeded(value(body));
        }
        let said: String = String::from_utf8_lossy(body).chars().take(SAID_MAX).collect();
        let (code, message) = (format!("http_{status}"), format!("{status} {name}: {said}"));
        match status {
            429 => Self::NotSent { code, message },
            500..600 => Self::Unknown { code, message },
            _ => Self::Failed { code, message },
        }
    }

    /// What a reply over AMQP says: one that cannot be read says nothing of the effect.
    pub fn of_amqp(reply: &[u8]) -> Self {
        match serde_json::from_slice(reply) {
            Ok(Reply::Succeeded { result }) => Self::Succeeded(result),
            Ok(Reply::Failed { code, message }) => Self::Failed { code, message },
            Err(error) => Self::Unknown { code: Code::ReplyUnreadable.into(), message: error.to_string() },
        }
    }
}

/// JSON as it is; nothing as null; anything else as a string.
fn value(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into())
}
