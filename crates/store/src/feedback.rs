//! What humans have decided and found about actions, for whoever trains the agents.

use chrono::{DateTime, Utc};
use countersign_core::{
    action::State,
    audit::Settled,
    ids::{ActionId, ActionRef},
};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::{StoreError, Transaction};

/// The reason for a decision or finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// For programs.
    pub code: Option<String>,
    /// For people.
    pub text: Option<String>,
}

/// What an audit has settled.
#[derive(Clone, Debug)]
pub struct AuditResult {
    /// The settled result.
    pub settled: Settled,
    /// The reason of the last auditor who found so.
    pub reason: Reason,
    /// What the call should have been, as JSON: the last correction of those who found it wrong.
    pub correction: Option<Vec<u8>>,
}

/// An action that a human has decided or judged.
#[derive(Clone, Debug)]
pub struct FeedbackItem {
    /// Its id.
    pub id: ActionId,
    /// The proposal's `source` and `id`.
    pub reference: ActionRef,
    /// The agent's id in the directory.
    pub agent: String,
    /// The tool.
    pub tool: String,
    /// Its state.
    pub state: State,
    /// The rule that decided it.
    pub rule: String,
    /// The policy's version.
    pub policy_version: String,
    /// Whether a human has approved exactly what is stored.
    pub approved: bool,
    /// Whether its tool was called.
    pub executed: bool,
    /// The message as received; absent or empty where it is erased.
    pub body: Option<Vec<u8>>,
    /// What was to be executed, in canonical form; absent where it is erased.
    pub content: Option<Vec<u8>>,
    /// The arguments that a reviewer put in place of the agent's, in canonical form.
    pub edited: Option<Vec<u8>>,
    /// Why a reviewer changed the arguments, where one did.
    pub edit: Option<Reason>,
    /// Why the last reviewer approved what is stored.
    pub approval: Reason,
    /// Why it was rejected, in the words that its agent got; absent where it was not.
    pub rejection: Option<Reason>,
    /// What its audit has settled.
    pub audit: Option<AuditResult>,
    /// The inclusion probability of its audit, where it was drawn.
    pub pi: Option<f64>,
}

fn item(row: &Row) -> Result<FeedbackItem, StoreError> {
    let id = ActionId(row.get("id"));
    let corrupt = |what: &str| StoreError::Corrupt(format!("the {what} of action {id} cannot be read"));
    let reason = |code: &str, text: &str| Reason { code: row.get(code), text: row.get(text) };
    let state = row.get::<_, &str>("state").parse().map_err(|_| corrupt("state"))?;
    let severity = row.get::<_, Option<&str>>("severity").map(str::parse).transpose();
    let severity = severity.map_err(|_| corrupt("severity"))?;
    let audit = match row.get::<_, Option<&str>>("finding") {
        Some(finding) => Some(AuditResult {
            settled: Settled { finding: finding.parse().map_err(|_| corrupt("finding"))?, severity },
            reason: reason("finding_code", "finding_reason"),
            correction: row.get("correction"),
        }),
        None => None,
    };
    Ok(FeedbackItem {
        id,
        reference: ActionRef { source: row.get("source"), id: row.get("event_id") },
        agent: row.get("agent"),
        tool: row.get("tool"),
        state,
        rule: row.get("rule"),
        policy_version: row.get("policy_version"),
        approved: row.get("approved"),
        executed: row.get("executed"),
        body: row.get("body"),
        content: row.get("content"),
        edited: row.get("edited"),
        edit: row.get::<_, bool>("was_edited").then(|| reason("edit_code", "edit_reason")),
        approval: reason("approval_code", "approval_reason"),
        rejection: (state == State::Rejected).then(|| reason("error_code", "error_message")),
        audit,
        pi: row.get("pi"),
    })
}

/// A page of the actions accepted in `from..to` that a human has decided or judged, in order of their ids, after
/// `after`.
///
/// # Errors
/// [`StoreError::Corrupt`] where a row holds an unknown state, finding or severity.
pub async fn page(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    after: Option<ActionId>,
    limit: i64,
) -> Result<Vec<FeedbackItem>, StoreError> {
    // No action has the smallest of all ids.
    let after = after.map_or(Uuid::nil(), |action| action.0);
    let parameters: [&(dyn ToSql + Sync); 4] = [&from, &to, &after, &limit];
    let statement = tx.prepare_cached(include_str!("sql/feedback.sql")).await?;
    tx.query(&statement, &parameters).await?.iter().map(item).collect()
}
