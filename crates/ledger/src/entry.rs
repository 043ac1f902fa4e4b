//! An entry of the ledger: one evidence event in canonical JSON (RFC 8785), built from the row that a worker wrote and
//! from facts about its action that never change.
//!
//! No payload and no person's name is in it: content by its salted digest, people by keyed pseudonyms.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{ENTRY_MAX, LedgerError};
use countersign_core::{
    digest::tagged,
    evidence::Kind,
    ids::{ActionId, ActionRef},
    json::canonical,
};

/// The version of the members that an entry has.
pub const SCHEMA: u32 = 1;

/// A row of evidence as its worker wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The event's id.
    pub event: Uuid,
    /// What happened, such as `action.evaluated`.
    pub kind: &'a str,
    /// The particulars, as JSON text byte for byte as it is stored.
    pub body: &'a str,
    /// When it happened, by the database's clock.
    pub occurred_at: DateTime<Utc>,
}

/// What never changes about the action of a row.
#[derive(Clone, Debug)]
pub struct ActionFacts {
    /// Its id.
    pub id: ActionId,
    /// As its agent calls it.
    pub reference: ActionRef,
    /// The agent's id.
    pub agent: String,
    /// The tool; empty where the proposal could not be read.
    pub tool: String,
    /// W3C trace context, where the proposal had one.
    pub traceparent: Option<String>,
    /// The action that it undoes.
    pub compensates: Option<ActionId>,
}

/// What the policy and the registry of a generation contribute.
#[derive(Clone, Debug, Default)]
pub struct Governing {
    /// `sha256:…` of the policy's text.
    pub policy_digest: String,
    /// The tool's risk.
    pub risk: Option<String>,
    /// Whether the tool's effect can be undone.
    pub reversible: Option<bool>,
}

/// What an entry contains besides its row.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// When it is recorded, by the database's clock.
    pub recorded_at: DateTime<Utc>,
    /// The name of the system.
    pub system: &'a str,
    /// A reference to the document that states the system's purpose; may be empty.
    pub purpose: &'a str,
    /// The action, where the row is about one.
    pub action: Option<&'a ActionFacts>,
    /// What governed an evaluation.
    pub governing: Option<&'a Governing>,
    /// The event of the action's previous entry.
    pub previous: Option<Uuid>,
}

/// Which members of a row's body belong to which section of the entry.
fn section(kind: Kind) -> Option<(&'static str, &'static [(&'static str, &'static str)])> {
    Some(match kind {
        Kind::ActionEvaluated => (
            "policy",
            &[
                ("rule", "rule"),
                ("stratum", "stratum"),
                ("policy_version", "version"),
                ("verdict", "verdict"),
                ("generation", "generation"),
                ("reason_code", "reason_code"),
                ("rule_errored", "rule_errored"),
                ("score_errored", "score_errored"),
            ],
        ),
        Kind::DecisionRecorded
        | Kind::DecisionRefused
        | Kind::DecisionRepeated
        | Kind::FindingRecorded
        | Kind::FindingRefused
        | Kind::FindingRepeated
        | Kind::AuditSettled => (
            "review",
            &[
                ("by", "reviewer"),
                ("approval", "approval"),
                ("decision", "decision"),
                ("audit", "audit"),
                ("finding", "finding"),
                ("severity", "severity"),
                ("reason_code", "reason_code"),
                ("resolution", "resolution"),
                ("compensate", "compensate"),
                ("digest_shown", "digest_shown"),
                ("approves", "approves"),
                ("correction_digest", "correction_digest"),
                ("groups", "groups"),
                ("opened_at", "opened_at"),
                ("signed", "signed"),
            ],
        ),
        Kind::ActionClaimed => ("execution", &[("permit", "permit"), ("fence", "fence")]),
        Kind::ActionCompleted | Kind::ResultLate => (
            "execution",
            &[
                ("state", "status"),
                ("fence", "fence"),
                ("attempts", "attempts"),
                ("error_code", "error_code"),
                ("result_digest", "effect_digest"),
            ],
        ),
        Kind::ActionSampled => (
            "sampling",
            &[
                ("epoch", "epoch"),
                ("stratum", "stratum"),
                ("pi", "pi"),
                ("r", "r"),
                ("selected", "selected"),
                ("forced", "forced"),
                ("cap", "cap"),
                ("wanted", "wanted"),
                ("executed", "executed"),
            ],
        ),
        _ => return None,
    })
}

fn time(at: DateTime<Utc>) -> Value {
    at.to_rfc3339_opts(SecondsFormat::Micros, true).into()
}

/// The SHA-256 of a row's body as it is stored, by which an entry names it.
pub fn body_digest(body: &str) -> String {
    tagged(&Sha256::digest(body))
}

/// The entry of a row: canonical JSON of at most [`ENTRY_MAX`] bytes. A body that is too large is represented by its
/// digest.
///
/// # Errors
/// [`LedgerError::Entry`] where the body is not a JSON object.
pub fn entry(row: &Row<'_>, context: &Context<'_>) -> Result<Vec<u8>, LedgerError> {
    let wrong = |why: String| LedgerError::Entry { event: row.event, why };
    let Ok(Value::Object(body)) = serde_json::from_str::<Value>(row.body) else {
        return Err(wrong("its body is not a JSON object".into()));
    };
    let mut whole = envelope(row, context);
    fill(&mut whole, row, context, body);
    let bytes = |entry: Map<String, Value>| {
        canonical(&Value::Object(entry)).map_err(|error| wrong(error.to_string()))
    };
    let entry = bytes(whole)?;
    if entry.len() <= ENTRY_MAX {
        return Ok(entry);
    }
    let mut brief = envelope(row, context);
    brief.insert("omitted".into(), json!({"bytes": row.body.len()}));
    let entry = bytes(brief)?;
    if entry.len() > ENTRY_MAX { Err(LedgerError::EntryTooLarge(entry.len())) } else { Ok(entry) }
}

/// What every entry has.
fn envelope(row: &Row<'_>, context: &Context<'_>) -> Map<String, Value> {
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| drop(entry.insert(name.into(), value));
    put("id", json!(row.event));
    put("type", row.kind.into());
    put("schema", SCHEMA.into());
    put("occurred_at", time(row.occurred_at));
    put("recorded_at", time(context.recorded_at));
    put("system", context.system.into());
    put("evidence", body_digest(row.body).into());
    if !context.purpose.is_empty() {
        put("purpose", context.purpose.into());
    }
    if let Some(facts) = context.action {
        put("action", json!({"id": facts.id, "source": facts.reference.source, "event": facts.reference.id}));
        // version-traceid-parentid-flags
        let trace = facts.traceparent.as_deref().and_then(|parent| parent.split('-').nth(1));
        trace.into_iter().for_each(|trace| put("trace_id", trace.into()));
    }
    context.previous.into_iter().for_each(|previous| put("previous", json!(previous)));
    entry
}

/// The sections that the row's kind has, and the rest of its body as `details`.
fn fill(entry: &mut Map<String, Value>, row: &Row<'_>, context: &Context<'_>, mut body: Map<String, Value>) {
    let mut part = Map::new();
    let kind = row.kind.parse::<Kind>().ok();
    if let Some((name, members)) = kind.and_then(section) {
        for (from, to) in members {
            if let Some(value) = body.remove(*from).filter(|value| !value.is_null()) {
                part.insert((*to).into(), value);
            }
        }
        match kind {
            Some(Kind::ActionClaimed) => drop(part.insert("started_at".into(), time(row.occurred_at))),
            Some(Kind::ActionCompleted) => drop(part.insert("ended_at".into(), time(row.occurred_at))),
            _ if name == "review" => {
                let mode = if row.kind.starts_with("decision") { "approval" } else { "audit" };
                part.insert("mode".into(), mode.into());
                part.insert("decided_at".into(), time(row.occurred_at));
            }
            _ => {}
        }
        if let Some(governing) = context.governing {
            part.insert("digest".into(), governing.policy_digest.clone().into());
        }
        if let ("execution", Some(undone)) = (name, context.action.and_then(|facts| facts.compensates)) {
            part.insert("compensates".into(), json!(undone));
        }
        entry.insert(name.into(), Value::Object(part));
    }
    if let (Some(facts), Some(Value::Object(action))) = (context.action, entry.get_mut("action")) {
        if !facts.tool.is_empty() {
            action.insert("tool".into(), facts.tool.clone().into());
        }
        // The key by which the tool recognises a repetition.
        action.insert("idempotency_key".into(), json!(facts.id));
        for member in ["digest", "target"] {
            if kind == Some(Kind::ActionEvaluated)
                && let Some(value) = body.remove(member)
            {
                action.insert(member.into(), value);
            }
        }
        if let Some(governing) = context.governing {
            governing.risk.iter().for_each(|risk| drop(action.insert("risk".into(), risk.clone().into())));
            governing.reversible.iter().for_each(|is| drop(action.insert("reversible".into(), (*is).into())));
        }
        body.remove("tool");
        let mut agent = body.remove("agent").unwrap_or_else(|| json!({"id": facts.agent}));
        if let Value::Object(agent) = &mut agent {
            agent.retain(|_, value| !value.is_null());
        }
        entry.insert("agent".into(), agent);
    }
    for member in ["state", "context"] {
        body.remove(member).into_iter().for_each(|value| drop(entry.insert(member.into(), value)));
    }
    if !body.is_empty() {
        entry.insert("details".into(), Value::Object(body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(kind: &'a str, body: &'a str) -> Row<'a> {
        let occurred_at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Row { event: Uuid::nil(), kind, body, occurred_at }
    }

    fn made(row: &Row<'_>, action: Option<&ActionFacts>, governing: Option<&Governing>) -> Value {
        let context = Context {
            recorded_at: row.occurred_at,
            system: "s",
            purpose: "p",
            action,
            governing,
            previous: Some(Uuid::max()),
        };
        let bytes = entry(row, &context).unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(canonical(&value).unwrap(), bytes);
        value
    }

    fn facts() -> ActionFacts {
        ActionFacts {
            id: ActionId(Uuid::nil()),
            reference: ActionRef { source: "/agents/a".into(), id: "a-1".into() },
            agent: "a".into(),
            tool: "t".into(),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            compensates: Some(ActionId(Uuid::max())),
        }
    }

    #[test]
    fn an_evaluation_has_action_agent_policy_and_context() {
        let body = r#"{"state":"authorised","verdict":"allow","rule":"r","policy_version":"3","generation":2,
            "digest":"sha256:00","agent":{"id":"a","model":"m","version":null},"tool":"t","context":["sha256:11"],"permit":{"id":"x"}}"#;
        let governing = Governing {
            policy_digest: "sha256:22".into(),
            risk: Some("low".into()),
            reversible: Some(false),
        };
        let entry = made(&row("action.evaluated", body), Some(&facts()), Some(&governing));
        assert_eq!(entry["policy"]["digest"], "sha256:22");
        assert_eq!((&entry["policy"]["rule"], &entry["policy"]["version"]), (&json!("r"), &json!("3")));
        assert_eq!(
            (&entry["action"]["digest"], &entry["action"]["risk"]),
            (&json!("sha256:00"), &json!("low"))
        );
        assert_eq!(entry["agent"], json!({"id": "a", "model": "m"}));
        assert_eq!((&entry["context"], &entry["state"]), (&json!(["sha256:11"]), &json!("authorised")));
        assert_eq!(entry["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(entry["previous"], json!(Uuid::max()));
        assert_eq!(entry["details"], json!({"permit": {"id": "x"}}));
    }

    #[test]
    fn an_execution_names_the_action_it_undoes_and_a_review_its_groups_and_opening_time() {
        let claimed = made(&row("action.claimed", r#"{"permit":"p","fence":1}"#), Some(&facts()), None);
        assert_eq!(claimed["execution"]["compensates"], json!(Uuid::max()));
        let body = r#"{"by":"p1","audit":"x","finding":"wrong","groups":["g"],"opened_at":"2026-01-01T00:00:00Z",
            "correction_digest":"d"}"#;
        let found = made(&row("finding.recorded", body), Some(&facts()), None);
        let review = json!({"mode": "audit", "reviewer": "p1", "audit": "x", "finding": "wrong", "groups": ["g"],
            "opened_at": "2026-01-01T00:00:00Z", "decided_at": found["occurred_at"], "correction_digest": "d"});
        assert_eq!(found["review"], review);
        assert!(found.get("execution").is_none() && found.get("details").is_none());
    }

    #[test]
    fn an_oversized_body_is_represented_by_its_digest() {
        let body = json!({"state": "held", "text": "x".repeat(ENTRY_MAX)}).to_string();
        let entry = made(&row("action.evaluated", &body), Some(&facts()), None);
        assert_eq!(entry["evidence"], body_digest(&body));
        assert_eq!(entry["omitted"]["bytes"], body.len());
        assert!(entry.get("details").is_none());
    }
}
