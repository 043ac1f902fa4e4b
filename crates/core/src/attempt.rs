//! An attempt to call a tool, and what the tool's answer says about its effect.

use std::collections::BTreeSet;

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
    /// The service itself does not know: it has lost what it called, for example.
    InDoubt {
        code: String,
        #[serde(default)]
        message: String,
    },
}

/// Whether an HTTP status leaves open if the tool has acted. Of those that are not 2xx, only 4xx says that it has not:
/// a redirect is also the usual answer after a form was carried out (303), and a server's error can come after the
/// effect. Of 4xx, a request that timed out (408) and one that was cancelled (499) may have been carried out in part.
pub fn is_inconclusive(status: u16) -> bool {
    !matches!(status, 200..300 | 400..500) || matches!(status, 408 | 499)
}

/// Whether an HTTP status comes from a gateway that has forwarded the request and got no valid answer (RFC 9110, 15.6.3
/// and 15.6.5). No tool can say what it means.
pub fn is_from_gateway(status: u16) -> bool {
    matches!(status, 502 | 504)
}

impl Attempt {
    /// Classifies an HTTP response by its status; `name` is the status' reason phrase.
    ///
    /// 2xx is success. 421 (RFC 9110), 425 (RFC 8470) and 429 (RFC 6585) say that the request was not processed, and so
    /// does a status of `certain_failures`, where the tool's definition vouches for that. After any other status that
    /// [`is_inconclusive`] the effect is unknown, and the rest are refusals.
    pub fn of_http(status: u16, name: &str, body: &[u8], certain_failures: &BTreeSet<u16>) -> Self {
        if status / 100 == 2 {
            return Self::Succeeded(value(body));
        }
        let excerpt: String = String::from_utf8_lossy(body).chars().take(EXCERPT_MAX).collect();
        let (code, message) = (http_status(status), format!("{status} {name}: {excerpt}"));
        match status {
            421 | 425 | 429 => Self::NotSent { code, message },
            _ if certain_failures.contains(&status) => Self::NotSent { code, message },
            _ if is_inconclusive(status) => Self::Unknown { code, message },
            _ => Self::Failed { code, message },
        }
    }

    /// Classifies a reply over AMQP. After an unreadable one the effect is unknown.
    pub fn of_amqp(reply: &[u8]) -> Self {
        match serde_json::from_slice(reply) {
            Ok(Reply::Succeeded { result }) => Self::Succeeded(result),
            Ok(Reply::Failed { code, message }) => Self::Failed { code, message },
            Ok(Reply::InDoubt { code, message }) => Self::Unknown { code, message },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, certain: &[u16]) -> Attempt {
        Attempt::of_http(status, "", b"", &certain.iter().copied().collect())
    }

    #[test]
    fn only_2xx_succeeds_and_only_4xx_is_a_failure_by_itself() {
        for status in 0..1_000 {
            match of(status, &[]) {
                Attempt::Succeeded(_) => assert!((200..300).contains(&status), "{status}"),
                Attempt::Failed { .. } | Attempt::NotSent { .. } => {
                    assert!((400..500).contains(&status) && ![408, 499].contains(&status), "{status}");
                }
                Attempt::Unknown { .. } => assert!(is_inconclusive(status), "{status}"),
            }
        }
    }

    #[test]
    fn a_listed_status_says_that_nothing_was_done_and_no_other_one_does() {
        for status in [303, 408, 500, 503] {
            assert!(matches!(of(status, &[status]), Attempt::NotSent { .. }), "{status}");
            assert!(matches!(of(status, &[501]), Attempt::Unknown { .. }), "{status}");
        }
        assert!(matches!(of(200, &[200]), Attempt::Succeeded(_)));
    }

    #[test]
    fn a_reply_that_does_not_say_what_happened_leaves_it_open() {
        let known = br#"{"status":"failed","code":"closed"}"#;
        assert!(matches!(Attempt::of_amqp(known), Attempt::Failed { code, .. } if code == "closed"));
        let unknown = br#"{"status":"in_doubt","code":"bank_gone","message":"no answer"}"#;
        assert!(matches!(Attempt::of_amqp(unknown), Attempt::Unknown { code, .. } if code == "bank_gone"));
        for reply in [
            &b""[..],
            b"{}",
            br#"{"status":"failed"}"#,
            br#"{"status":"refused","code":"x"}"#,
            br#"{"status":"failed","code":"x"} {"status":"succeeded"}"#,
            br#"{"status":"failed","status":"succeeded","code":"x"}"#,
            br#"{"status":"failed","code":"x","code":"y"}"#,
            br#"{"status":"Failed","code":"x"}"#,
            b"\xff",
        ] {
            let text = String::from_utf8_lossy(reply);
            assert!(matches!(Attempt::of_amqp(reply), Attempt::Unknown { .. }), "{text}");
        }
    }
}
