//! Lists for people: actions, approvals, audits. Without payloads, which are shown one at a time.

use chrono::{DateTime, Utc};
use countersign_core::ids::ActionId;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::{StoreError, Transaction};

/// One action in a list.
#[derive(Clone, Debug, Serialize)]
pub struct ActionSummary {
    /// Countersign's own id.
    pub id: ActionId,
    /// The proposal's `source`.
    pub source: String,
    /// The proposal's `id`.
    pub event_id: String,
    /// The agent's id.
    pub agent: String,
    /// The tool.
    pub tool: String,
    /// Its state.
    pub state: String,
    /// The policy's verdict.
    pub verdict: String,
    /// The rule that gave it.
    pub rule: String,
    /// The policy's version.
    pub policy_version: String,
    /// Who approved it.
    pub approvers: Vec<String>,
    /// Why it did not succeed.
    pub error_code: Option<String>,
    /// When it was accepted.
    pub proposed_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Which actions are listed.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this state.
    pub state: Option<String>,
    /// Only this agent.
    pub agent: Option<String>,
    /// Only this tool.
    pub tool: Option<String>,
    /// Only those accepted since then.
    pub from: Option<DateTime<Utc>>,
    /// At most this many, the newest first.
    pub limit: i64,
}

const ACTIONS: &str = "SELECT a.id, a.source, a.event_id, a.agent, a.tool, a.state, a.verdict, a.rule,
    a.policy_version, a.approvers, o.error_code, a.proposed_at, a.ended_at
    FROM actions a LEFT JOIN LATERAL
      (SELECT error_code FROM outcomes WHERE action = a.id ORDER BY seq DESC LIMIT 1) o ON true";

fn summary(row: &tokio_postgres::Row) -> ActionSummary {
    ActionSummary {
        id: ActionId(row.get(0)),
        source: row.get(1),
        event_id: row.get(2),
        agent: row.get(3),
        tool: row.get(4),
        state: row.get(5),
        verdict: row.get(6),
        rule: row.get(7),
        policy_version: row.get(8),
        approvers: row.get(9),
        error_code: row.get(10),
        proposed_at: row.get(11),
        ended_at: row.get(12),
    }
}

/// Actions, the newest first.
pub async fn actions(tx: &Transaction, filter: &Filter) -> Result<Vec<ActionSummary>, StoreError> {
    let sql = format!(
        "{ACTIONS} WHERE ($1::text IS NULL OR a.state = $1) AND ($2::text IS NULL OR a.agent = $2)
           AND ($3::text IS NULL OR a.tool = $3) AND ($4::timestamptz IS NULL OR a.proposed_at >= $4)
         ORDER BY a.id DESC LIMIT $5"
    );
    let parameters: [&(dyn ToSql + Sync); 5] =
        [&filter.state, &filter.agent, &filter.tool, &filter.from, &filter.limit];
    Ok(tx.query(&sql, &parameters).await?.iter().map(summary).collect())
}

/// The actions that a person may mean by `name`: an action's uuid, its agent's id for it, or `source#id`. An action's
/// uuid is also the event id of its compensation; on its own, it means the action.
pub async fn find(tx: &Transaction, name: &str) -> Result<Vec<ActionSummary>, StoreError> {
    let id = name.parse::<Uuid>().ok();
    let (source, event) = match name.split_once('#') {
        Some((source, event)) => (Some(source), event),
        None => (None, name),
    };
    let sql = format!(
        "{ACTIONS} WHERE a.id = $1 OR (a.event_id = $2 AND ($3::text IS NULL OR a.source = $3)
                                    AND NOT EXISTS (SELECT FROM actions b WHERE b.id = $1)) LIMIT 20"
    );
    Ok(tx.query(&sql, &[&id, &event, &source]).await?.iter().map(summary).collect())
}

/// One approval request in a list.
#[derive(Clone, Debug, Serialize)]
pub struct ApprovalSummary {
    /// Its id.
    pub id: Uuid,
    /// The action to be approved.
    pub action: ActionId,
    /// The proposal's `id`.
    pub event_id: String,
    /// The tool.
    pub tool: String,
    /// How many members of which groups must approve.
    pub require: Value,
    /// The rule that requires approval.
    pub rule: String,
    /// Why the rule requires it.
    pub rule_text: String,
    /// `open`, `approved`, `rejected`, `expired` or `closed`.
    pub state: String,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// Who decided what, on the current content.
    pub decisions: Option<Value>,
}

/// Approval requests, the earliest deadline first.
pub async fn approvals(
    tx: &Transaction,
    group: Option<&str>,
    state: Option<&str>,
    limit: i64,
) -> Result<Vec<ApprovalSummary>, StoreError> {
    let sql = "SELECT p.id, p.action, a.event_id, a.tool, p.spec -> 'require', p.rule, p.rule_text, p.state,
                      p.opened_at, p.expires_at,
                      (SELECT json_object_agg(d.reviewer, d.decision)
                       FROM (SELECT DISTINCT ON (d.reviewer) d.reviewer, d.decision
                             FROM decisions d JOIN payloads y ON y.action = d.action AND y.digest = d.digest
                             WHERE d.action = p.action
                             -- As `Vote::precedence` in core.
                             ORDER BY d.reviewer, d.signed_at DESC,
                                      array_position(ARRAY['approve', 'edit', 'respond', 'reject'], d.decision) DESC) d)
               FROM approvals p JOIN actions a ON a.id = p.action
               WHERE ($1::text IS NULL OR p.spec @> jsonb_build_object('require',
                        jsonb_build_array(jsonb_build_object('group', $1::text)))
                      OR p.spec @> jsonb_build_object('escalate',
                        jsonb_build_array(jsonb_build_object('also', $1::text))))
                 AND ($2::text IS NULL OR p.state = $2)
               ORDER BY p.expires_at LIMIT $3";
    let rows = tx.query(sql, &[&group, &state, &limit]).await?;
    Ok(rows
        .iter()
        .map(|row| ApprovalSummary {
            id: row.get(0),
            action: ActionId(row.get(1)),
            event_id: row.get(2),
            tool: row.get(3),
            require: row.get(4),
            rule: row.get(5),
            rule_text: row.get(6),
            state: row.get(7),
            opened_at: row.get(8),
            expires_at: row.get(9),
            decisions: row.get(10),
        })
        .collect())
}

/// One audit in a list.
#[derive(Clone, Debug, Serialize)]
pub struct AuditSummary {
    /// Its id.
    pub id: Uuid,
    /// The audited action.
    pub action: ActionId,
    /// The proposal's `id`.
    pub event_id: String,
    /// The tool.
    pub tool: String,
    /// How the action ended.
    pub outcome: String,
    /// The group whose members may judge it.
    pub group: String,
    /// `sampled`, `in_doubt` or `look_back`; `gold` once a gold item is settled.
    pub reason: String,
    /// `open` or `judged`.
    pub state: String,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// What was found.
    pub finding: Option<String>,
    /// How bad it is.
    pub severity: Option<String>,
    /// The auditors; absent until it is judged, so that they do not influence each other.
    pub auditors: Option<Vec<String>>,
    /// The auditors' reasons.
    pub reasons: Option<String>,
}

/// Audits, the oldest first. A gold item stands among them as it stands among the auditors' requests: until it is settled like
/// any other, and in the place of the earlier audit that it shows.
pub async fn audits(
    tx: &Transaction,
    group: Option<&str>,
    state: Option<&str>,
    limit: i64,
) -> Result<Vec<AuditSummary>, StoreError> {
    let sql =
        "SELECT u.id, u.action, a.event_id, a.tool, a.state, u.group_name, u.reason, u.state, u.opened_at,
                      u.finding, u.severity, f.auditors, f.reasons
               FROM (SELECT id, action, group_name, reason, state, opened_at, finding, severity FROM audits b
                     WHERE NOT EXISTS (SELECT FROM gold_items g WHERE g.audit = b.id AND g.state = 'open')
                     UNION ALL SELECT g.id, b.action, g.group_name, CASE g.state WHEN 'open' THEN 'sampled' ELSE 'gold' END,
                                      g.state, g.opened_at, g.finding, NULL
                               FROM gold_items g JOIN audits b ON b.id = g.audit WHERE g.state <> 'withdrawn') u
               JOIN actions a ON a.id = u.action
               LEFT JOIN LATERAL (SELECT array_agg(auditor ORDER BY found_at) AS auditors,
                                         string_agg(coalesce(reason, reason_code), '; ' ORDER BY found_at) AS reasons
                                  FROM (SELECT audit, auditor, reason, reason_code, found_at FROM findings WHERE audit = u.id
                                        UNION ALL SELECT item, auditor, reason, reason_code, found_at FROM gold_findings
                                                  WHERE item = u.id) found) f ON u.state = 'judged'
               WHERE ($1::text IS NULL OR u.group_name = $1) AND ($2::text IS NULL OR u.state = $2)
               ORDER BY u.opened_at LIMIT $3";
    let rows = tx.query(sql, &[&group, &state, &limit]).await?;
    Ok(rows
        .iter()
        .map(|row| AuditSummary {
            id: row.get(0),
            action: ActionId(row.get(1)),
            event_id: row.get(2),
            tool: row.get(3),
            outcome: row.get(4),
            group: row.get(5),
            reason: row.get(6),
            state: row.get(7),
            opened_at: row.get(8),
            finding: row.get(9),
            severity: row.get(10),
            auditors: row.get(11),
            reasons: row.get(12),
        })
        .collect())
}

/// The sampling draw of one action.
#[derive(Clone, Debug, Serialize)]
pub struct DrawSummary {
    /// The epoch whose key was used.
    pub epoch: i64,
    /// The stratum.
    pub stratum: String,
    /// Inclusion probability.
    pub pi: f64,
    /// Whether it is audited.
    pub selected: bool,
    /// Why π is 1 regardless of the rule.
    pub forced: Option<String>,
    /// R, 56 bits: the action was selected at every π from 1 − R / 2^56 on.
    #[serde(skip)]
    pub r: u64,
}

/// The sampling draw of one action; `None` until it is executed.
pub async fn draw(tx: &Transaction, action: ActionId) -> Result<Option<DrawSummary>, StoreError> {
    let sql = "SELECT epoch, stratum, pi, selected, forced, r FROM sampling WHERE action = $1";
    Ok(tx.query_opt(sql, &[&action.0]).await?.map(|row| DrawSummary {
        epoch: row.get(0),
        stratum: row.get(1),
        pi: row.get(2),
        selected: row.get(3),
        forced: row.get(4),
        r: u64::try_from(row.get::<_, i64>(5)).unwrap_or_default(),
    }))
}
