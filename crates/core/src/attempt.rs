//! An attempt to call a tool, and what the tool's answer says about its effect.

use serde::Deserialize;
use serde_json::Value;

use crate::refusal::{Code, http_status};

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// The tool acted, with this result.
    Succeeded(Value),
    /// The tool refused: it did not act, and a retry will not help.
    Failed {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// Nothing was sent, or the tool answered that it did nothing: a retry is safe for any tool.
    NotSent {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// The request was sent, and there is no definite answer.
    Unknown {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// How many characters of a refusal's body are kept.
const EXCERPT_MAX: usize = 500;

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
    /// Classifies an HTTP response by its status; `name` is the status' reason phrase. 2xx is success, 429 was not
    /// processed (RFC 6585), after 5xx the effect is unknown, and anything else is a refusal.
    pub fn of_http(status: u16, name: &str, body: &[u8]) -> Self {
        if status / 100 == 2 {
            return Self::Succeeded(value(body));
        }
        let excerpt: String = String::from_utf8_lossy(body).chars().take(EXCERPT_MAX).collect();
        let (code, message) = (http_status(status), format!("{status} {name}: {excerpt}"));
        match status {
            429 => Self::NotSent { code, message },
            500..600 => Self::Unknown { code, message },
            _ => Self::Failed { code, message },
        }
    }

    /// Classifies a reply over AMQP. After an unreadable one the effect is unknown.
    pub fn of_amqp(reply: &[u8]) -> Self {
        match serde_json::from_slice(reply) {
            Ok(Reply::Succeeded { result }) => Self::Succeeded(result),
            Ok(Reply::Failed { code, message }) => Self::Failed { code, message },
            Err(error) => Self::Unknown { code: Code::ReplyUnreadable.into(), message: error.to_string() },
        }
    }
}

/// A body as JSON: an empty one as null, one that is not JSON as a string.
fn value(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into())
}
