//! What a verification reads: entries beside their evidence, and counts of what should have entries.

use countersign_core::evidence::Kind;
use countersign_ledger::Hash;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{number, stored};
use crate::{StoreError, Transaction};

/// A row of the ledger beside its row of evidence.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its index.
    pub index: u64,
    /// The event that its row names.
    pub event: Uuid,
    /// The action that its row names.
    pub action: Option<Uuid>,
    /// The kind that its row names.
    pub kind: String,
    /// Canonical JSON.
    pub entry: Vec<u8>,
    /// The stored leaf hash.
    pub leaf: Vec<u8>,
    /// Event, action, kind and body of the evidence, if it is still there.
    pub evidence: Option<(Uuid, Option<Uuid>, String, String)>,
}

/// Up to `limit` rows from index `from` on, in order.
pub async fn recorded(tx: &Transaction, from: u64, limit: i64) -> Result<Vec<Recorded>, StoreError> {
    let sql =
        "SELECT l.index, l.event, l.action, l.kind, l.entry, l.leaf, e.event, e.action, e.kind, e.body::text
               FROM ledger l LEFT JOIN evidence e ON e.id = l.evidence
               WHERE l.index >= $1 ORDER BY l.index LIMIT $2";
    let recorded = |row: &Row| Recorded {
        index: number(row.get(0)),
        event: row.get(1),
        action: row.get(2),
        kind: row.get(3),
        entry: row.get(4),
        leaf: row.get(5),
        evidence: row.get::<_, Option<Uuid>>(6).map(|event| (event, row.get(7), row.get(8), row.get(9))),
    };
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&stored(from), &limit]).await?;
    Ok(rows.iter().map(recorded).collect())
}

/// Up to `limit` nodes of a level from `from` on, as index and hash.
pub async fn nodes(
    tx: &Transaction,
    level: u8,
    from: u64,
    limit: i64,
) -> Result<Vec<(u64, Option<Hash>)>, StoreError> {
    let sql = "SELECT index, hash FROM ledger_nodes WHERE level = $1 AND index >= $2 ORDER BY index LIMIT $3";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&i16::from(level), &stored(from), &limit]).await?;
    let node = |row: &Row| (number(row.get(0)), row.get::<_, &[u8]>(1).try_into().ok());
    Ok(rows.iter().map(node).collect())
}

/// The number of rows of one kind, and of the entries about them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Actions, decisions or executions.
    pub what: &'static str,
    /// Rows in the tables.
    pub rows: i64,
    /// Entries in the ledger, including pending evidence.
    pub entries: i64,
    /// The first action whose numbers differ.
    pub first: Option<Uuid>,
}

/// What is counted in the tables and in the entries.
struct Comparison {
    what: &'static str,
    kinds: &'static [Kind],
    /// Counts rows as `n` for each `action`.
    rows: &'static str,
    /// Joins what a piece of evidence `e` says, where it can say more than one thing.
    said: &'static str,
    /// Counts an action's evidence `e`.
    entries: &'static str,
}

const COMPARISONS: [Comparison; 3] = [
    Comparison {
        what: "actions",
        kinds: &[Kind::ActionEvaluated],
        rows: "SELECT id AS action, 1::bigint AS n FROM actions",
        said: "",
        entries: "1::bigint",
    },
    Comparison {
        what: "decisions",
        kinds: &[Kind::DecisionRecorded, Kind::DecisionRepeated],
        rows: "SELECT action, count(*) AS n FROM decisions GROUP BY action",
        // An edit can be its editor's approval of the edited content as well: a row for each content.
        said: "CROSS JOIN LATERAL (VALUES (e.body ->> 'decision', e.body ->> 'digest_shown'),
                                          ('approve', e.body ->> 'approves')) AS said (decision, digest)",
        // What one person has signed twice in a second, with one key, on one content, is one row; what is repeated
        // after the request has ended is none.
        entries: "count(DISTINCT (e.body ->> 'by', said.digest, said.decision,
                                  e.body -> 'signed' ->> 'kid', e.body -> 'signed' ->> 'at'))
                  FILTER (WHERE said.digest IS NOT NULL
                          AND (e.kind = 'decision.recorded' OR e.body ->> 'state' = 'pending_approval'))",
    },
    Comparison {
        what: "executions",
        kinds: &[Kind::ActionClaimed],
        rows: "SELECT id AS action, fence::bigint AS n FROM actions WHERE fence > 0",
        said: "",
        entries: "count(*)",
    },
];

/// Counts actions, decisions and executions against the entries about them, action by action.
pub async fn counts(tx: &Transaction) -> Result<Vec<Count>, StoreError> {
    // Reading a whole ledger takes longer than the limit for a worker's statement.
    tx.query_one("SELECT set_config('statement_timeout', '15min', true)", &[]).await?;
    let mut counts = Vec::with_capacity(COMPARISONS.len());
    for Comparison { what, kinds, rows, said, entries } in &COMPARISONS {
        // Entries and pending evidence.
        let sql = format!(
            "WITH stored AS ({rows}),
                  known AS (SELECT evidence FROM ledger WHERE kind = ANY($1) UNION ALL SELECT unnest(evidence) FROM evidence_pending),
                  recorded AS (SELECT e.action, {entries} AS n FROM known JOIN evidence e ON e.id = known.evidence {said}
                           WHERE e.kind = ANY($1) AND e.action IS NOT NULL GROUP BY e.action)
             SELECT coalesce(sum(stored.n), 0)::bigint, coalesce(sum(recorded.n), 0)::bigint,
                    min(action::text) FILTER (WHERE stored.n IS DISTINCT FROM recorded.n)
             FROM stored FULL JOIN recorded USING (action)"
        );
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        let row = tx.query_one(&sql, &[&kinds]).await?;
        let first: Option<String> = row.get(2);
        let first = first.and_then(|id| id.parse().ok());
        counts.push(Count { what, rows: row.get(0), entries: row.get(1), first });
    }
    Ok(counts)
}
