//! Decoding a proposal: everything that must hold before the policy sees it.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{
    ids::{ActionRef, NAME_MAX, is_name},
    json::{self, parse_strict},
    message::kind,
    refusal::{Code, Complaint},
};

/// A well-formed proposal. It is what an agent claims: only the author that the broker validated is trusted.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The `source` and `id` that its agent gave it.
    pub reference: ActionRef,
    /// The event's own time.
    pub time: Option<DateTime<Utc>>,
    /// The tool to be called.
    pub tool: String,
    /// Its arguments: an object.
    pub arguments: Value,
    /// The `agent` object.
    pub agent: Value,
    /// `agent.id`.
    pub agent_id: String,
    /// `data` as a whole, with the event's `source` and `id`: what policy sees as `action`.
    pub action: Value,
    /// After this it is not executed.
    pub expires_at: Option<DateTime<Utc>>,
    /// The agent's earlier action that it replaces.
    pub supersedes: Option<ActionRef>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// Why a message is not a proposal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: what to send instead.
    pub message: String,
    /// The action that it was meant to be, where that can be read: then it is answered `denied`.
    pub reference: Option<ActionRef>,
}

impl Refusal {
    /// The refusal of a message that cannot be decoded, with its reference where `source` and `id` can be read.
    pub fn unreadable(body: &[u8], code: Code, message: String) -> Self {
        let ids = json::envelope_ids(body).filter(|(source, id)| is_name(source) && is_name(id));
        Self { code, message, reference: ids.map(|(source, id)| ActionRef { source, id }) }
    }
}

/// Decodes a proposal of at most `max_bytes`.
///
/// # Errors
/// The refusal carries the reference where `source` and `id` can be read. Whether the author may use that source is
/// for the caller to check.
pub fn decode(body: &[u8], max_bytes: usize) -> Result<Proposal, Refusal> {
    check_size(body, max_bytes)?;
    let event =
        parse_strict(body).map_err(|error| Refusal::unreadable(body, error.code(), error.to_string()))?;
    from_event(event)
}

/// Refuses a message of more than `max_bytes`.
///
/// # Errors
/// [`Code::MessageTooLarge`].
pub fn check_size(body: &[u8], max_bytes: usize) -> Result<(), Refusal> {
    if body.len() > max_bytes {
        let message = format!("the message has {} bytes, the limit is {max_bytes}", body.len());
        return Err(Refusal::unreadable(body, Code::MessageTooLarge, message));
    }
    Ok(())
}

/// Decodes a proposal from an event that [`parse_strict`] has accepted.
///
/// # Errors
/// As [`decode`].
pub fn from_event(event: Value) -> Result<Proposal, Refusal> {
    let name = |member: &str| event.get(member).and_then(Value::as_str).filter(|name| is_name(name));
    let Some((source, id)) = name("source").zip(name("id")) else {
        return Err(Refusal {
            code: Code::InvalidEnvelope,
            message: format!(
                "`source` and `id` must be strings of 1 to {NAME_MAX} bytes without control characters"
            ),
            reference: None,
        });
    };
    let reference = ActionRef { source: source.into(), id: id.into() };
    proposal(event, &reference).map_err(|(code, message)| Refusal {
        code,
        message,
        // An event of another type is not an action, so nobody is answered.
        reference: (code != Code::UnknownType).then_some(reference),
    })
}

fn proposal(event: Value, reference: &ActionRef) -> Result<Proposal, Complaint> {
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind != kind::PROPOSED {
        return Err((Code::UnknownType, format!("the type is {kind:?}; send {:?}", kind::PROPOSED)));
    }
    if event.get("specversion").and_then(Value::as_str) != Some("1.0") {
        return Err((Code::InvalidEnvelope, "`specversion` must be \"1.0\"".into()));
    }
    let Value::Object(mut event) = event else {
        return Err((Code::InvalidEnvelope, "the message must be a JSON object".into()));
    };
    let time = timestamp(&event, "time")?;
    let traceparent = optional_name(&event, "traceparent")?;
    let Some(Value::Object(mut data)) = event.remove("data") else {
        return Err((
            Code::InvalidProposal,
            "`data` must be an object with `tool`, `arguments` and `agent`".into(),
        ));
    };
    let tool = required_name(&data, "tool", "data.tool")?;
    let arguments = object(&data, "arguments")?;
    let agent = object(&data, "agent")?;
    let agent_object = agent.as_object().cloned().unwrap_or_default();
    let agent_id = required_name(&agent_object, "id", "data.agent.id")?;
    for member in ["version", "model", "on_behalf_of"] {
        optional_name(&agent_object, member)?;
    }
    let expires_at = timestamp(&data, "expires_at")?;
    let supersedes = supersedes(&data, reference)?;
    data.insert("source".into(), reference.source.clone().into());
    data.insert("id".into(), reference.id.clone().into());
    Ok(Proposal {
        reference: reference.clone(),
        time,
        tool,
        arguments,
        agent,
        agent_id,
        action: Value::Object(data),
        expires_at,
        supersedes,
        traceparent,
    })
}

/// An earlier action of the same source: an agent may not replace another's.
fn supersedes(data: &Map<String, Value>, reference: &ActionRef) -> Result<Option<ActionRef>, Complaint> {
    let earlier = match data.get("supersedes") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(earlier)) => earlier,
        Some(_) => {
            return Err((Code::InvalidProposal, "`data.supersedes` must be an object with `id`".into()));
        }
    };
    let id = required_name(earlier, "id", "data.supersedes.id")?;
    let source = optional_name(earlier, "source")?.unwrap_or_else(|| reference.source.clone());
    if source != reference.source || id == reference.id {
        let why = "`data.supersedes` must name an earlier action of the same source".into();
        return Err((Code::InvalidProposal, why));
    }
    Ok(Some(ActionRef { source, id }))
}

fn object(data: &Map<String, Value>, member: &str) -> Result<Value, Complaint> {
    match data.get(member) {
        Some(value @ Value::Object(_)) => Ok(value.clone()),
        _ => Err((Code::InvalidProposal, format!("`data.{member}` must be an object"))),
    }
}

fn optional_name(object: &Map<String, Value>, member: &str) -> Result<Option<String>, Complaint> {
    match object.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if is_name(text) => Ok(Some(text.clone())),
        Some(_) => Err((
            Code::InvalidProposal,
            format!("`{member}` must be a string of 1 to {NAME_MAX} bytes without control characters"),
        )),
    }
}

fn required_name(object: &Map<String, Value>, member: &str, path: &str) -> Result<String, Complaint> {
    optional_name(object, member)?.ok_or_else(|| (Code::InvalidProposal, format!("`{path}` is missing")))
}

fn timestamp(object: &Map<String, Value>, member: &str) -> Result<Option<DateTime<Utc>>, Complaint> {
    let complaint = || (Code::InvalidProposal, format!("`{member}` must be an RFC 3339 time of this era"));
    match object.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            DateTime::parse_from_rfc3339(text).map(|time| Some(time.to_utc())).map_err(|_| complaint())
        }
        Some(_) => Err(complaint()),
    }
}

#[cfg(test)]
mod tests;
