//! Earlier audits of which gold items can be made.

use countersign_core::{
    ids::{ActionId, AuditId},
    message::Finding,
};
use uuid::Uuid;

use crate::{StoreError, Transaction, held};

/// The most candidates: the last that were settled. Older ones would stand out by what they are about.
const MAX: i64 = 64;

/// An earlier audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The audit.
    pub audit: AuditId,
    /// The action that it shows.
    pub action: ActionId,
}

/// The last audits of a group that were settled with this finding and can be shown again: drawn ones, of actions whose result is
/// certain, of which nothing was erased and nothing is under a legal hold, and which no open gold item shows. Not of `except`,
/// whose own audit has just been drawn.
pub async fn candidates(
    tx: &Transaction,
    group: &str,
    finding: Finding,
    except: ActionId,
) -> Result<Vec<Candidate>, StoreError> {
    let sql = "SELECT u.id, u.action FROM audits u
               JOIN actions a ON a.id = u.action JOIN payloads p ON p.action = u.action
               WHERE u.group_name = $1 AND u.state = 'judged' AND u.finding = $2 AND u.reason = 'sampled'
                 AND u.action <> $3 AND a.state IN ('succeeded', 'failed')
                 AND p.content IS NOT NULL AND length(p.body) > 0
                 AND NOT EXISTS (SELECT FROM outcomes o WHERE o.action = u.action AND o.seq > 1)
                 AND NOT EXISTS (SELECT FROM erasures e WHERE u.action = ANY (e.actions))
                 AND NOT EXISTS (SELECT FROM gold_items g WHERE g.audit = u.id AND g.state = 'open')
               ORDER BY u.judged_at DESC, u.id LIMIT $4";
    let rows =
        tx.query(&tx.prepare_cached(sql).await?, &[&group, &finding.as_str(), &except.0, &MAX]).await?;
    let mut found: Vec<Candidate> = rows
        .iter()
        .map(|row| Candidate { audit: AuditId(row.get(0)), action: ActionId(row.get(1)) })
        .collect();
    let actions: Vec<Uuid> = found.iter().map(|candidate| candidate.action.0).collect();
    let held = held::held_of(tx, &actions).await?;
    found.retain(|candidate| !held.contains(&candidate.action.0));
    Ok(found)
}

/// Whoever has judged one of these audits, or a gold item that showed it again.
pub async fn judges(tx: &Transaction, audits: &[AuditId]) -> Result<Vec<(AuditId, String)>, StoreError> {
    let sql = "SELECT audit, auditor FROM findings WHERE audit = ANY($1)
               UNION SELECT g.audit, f.auditor FROM gold_items g JOIN gold_findings f ON f.item = g.id
                     WHERE g.audit = ANY($1)";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&super::uuids(audits)]).await?;
    Ok(rows.iter().map(|row| (AuditId(row.get(0)), row.get(1))).collect())
}
