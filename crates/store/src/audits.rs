//! Audits of executed actions.

use chrono::{DateTime, Utc};
use countersign_core::{
    audit::{Opinion, Settled},
    ids::{ActionId, AuditId},
    message::AuditReason,
};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::{StoreError, Transaction, outcomes::storable};

/// An audit to be opened.
#[derive(Clone, Debug)]
pub struct NewAudit {
    /// Its id.
    pub id: AuditId,
    /// The audited action.
    pub action: ActionId,
    /// The group whose members may judge it.
    pub group: String,
    /// Why it was opened.
    pub reason: AuditReason,
    /// Whether two auditors must judge it.
    pub twice: bool,
}

/// Opens audits, one per action at most.
pub async fn open(tx: &Transaction, rows: &[NewAudit]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO audits (id, action, group_name, reason, twice, state)
             SELECT id, action, group_name, reason, twice, 'open'
             FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bool[])
               AS u (id, action, group_name, reason, twice)
             ON CONFLICT (action) DO NOTHING",
        )
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let groups: Vec<&str> = rows.iter().map(|row| row.group.as_str()).collect();
    let reasons: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
    let twice: Vec<bool> = rows.iter().map(|row| row.twice).collect();
    tx.execute(&statement, &[&ids, &actions, &groups, &reasons, &twice]).await?;
    Ok(())
}

/// An audit as stored.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// Its id.
    pub id: AuditId,
    /// The audited action.
    pub action: ActionId,
    /// The group whose members may judge it.
    pub group: String,
    /// Why it was opened.
    pub reason: AuditReason,
    /// Whether it is not settled yet.
    pub open: bool,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Whether two auditors must judge it.
    pub twice: bool,
    /// How many further auditors have been asked.
    pub round: i32,
    /// The settled result, if there is one.
    pub settled: Option<Settled>,
}

/// What a request to auditors says of the audit itself.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The audit.
    pub id: AuditId,
    /// Why it was opened.
    pub reason: AuditReason,
    /// The group whose members may judge it.
    pub group: &'a str,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// How many further auditors have been asked.
    pub round: i32,
}

impl AuditRecord {
    /// What a request for it says.
    pub fn request(&self) -> Request<'_> {
        let Self { id, reason, group, opened_at, round, .. } = self;
        Request { id: *id, reason: *reason, group, opened_at: *opened_at, round: *round }
    }
}

fn record(row: &Row) -> AuditRecord {
    let reasons = [AuditReason::InDoubt, AuditReason::LookBack];
    let reason: &str = row.get(3);
    AuditRecord {
        id: AuditId(row.get(0)),
        action: ActionId(row.get(1)),
        group: row.get(2),
        reason: reasons.into_iter().find(|known| known.as_str() == reason).unwrap_or(AuditReason::Sampled),
        open: row.get::<_, &str>(4) == "open",
        opened_at: row.get(5),
        twice: row.get(6),
        round: row.get(7),
        settled: row.get::<_, Option<&str>>(8).and_then(|finding| {
            let severity = row.get::<_, Option<&str>>(9).and_then(|severity| severity.parse().ok());
            Some(Settled { finding: finding.parse().ok()?, severity })
        }),
    }
}

const COLUMNS: &str =
    "SELECT id, action, group_name, reason, state, opened_at, twice, round, finding, severity FROM audits";

/// The open audits of these actions.
pub async fn open_of(tx: &Transaction, actions: &[ActionId]) -> Result<Vec<AuditRecord>, StoreError> {
    let sql = format!("{COLUMNS} WHERE action = ANY($1) AND state = 'open'");
    let statement = tx.prepare_cached(&sql).await?;
    let actions: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    Ok(tx.query(&statement, &[&actions]).await?.iter().map(record).collect())
}

/// The audits of these actions, open or judged.
pub async fn of(tx: &Transaction, actions: &[ActionId]) -> Result<Vec<AuditRecord>, StoreError> {
    let sql = format!("{COLUMNS} WHERE action = ANY($1) ORDER BY action");
    let actions: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    Ok(tx.query(&tx.prepare_cached(&sql).await?, &[&actions]).await?.iter().map(record).collect())
}

/// One audit, locked.
pub async fn lock(tx: &Transaction, id: AuditId) -> Result<Option<AuditRecord>, StoreError> {
    let sql = format!("{COLUMNS} WHERE id = $1 FOR UPDATE");
    Ok(tx.query_opt(&tx.prepare_cached(&sql).await?, &[&id.0]).await?.as_ref().map(record))
}

/// One auditor's finding.
#[derive(Clone, Debug)]
pub struct FindingRow {
    /// The audit.
    pub audit: AuditId,
    /// The auditor.
    pub auditor: String,
    /// The finding and its severity.
    pub opinion: Opinion,
    /// Why, for programs.
    pub reason_code: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
    /// What the call should have been, as JSON.
    pub correction: Option<Vec<u8>>,
    /// The correction as JSON Patch (RFC 6902).
    pub patch: Option<Vec<u8>>,
    /// Whether the auditor requests compensation.
    pub compensate: bool,
    /// The key that signed it.
    pub kid: String,
}

/// The findings on a locked audit so far, oldest first.
pub async fn findings(tx: &Transaction, audit: AuditId) -> Result<Vec<FindingRow>, StoreError> {
    let sql =
        "SELECT audit, auditor, finding, severity, reason_code, reason, correction, patch, compensate, kid
               FROM findings WHERE audit = $1 ORDER BY found_at, auditor";
    let corrupt = |_: String| StoreError::Corrupt(format!("a finding of audit {audit} cannot be read"));
    let found = |row: &Row| {
        Ok(FindingRow {
            audit: AuditId(row.get(0)),
            auditor: row.get(1),
            opinion: Opinion {
                finding: row.get::<_, &str>(2).parse().map_err(corrupt)?,
                severity: row.get::<_, Option<&str>>(3).map(str::parse).transpose().map_err(corrupt)?,
            },
            reason_code: row.get(4),
            reason: row.get(5),
            correction: row.get(6),
            patch: row.get(7),
            compensate: row.get(8),
            kid: row.get(9),
        })
    };
    tx.query(&tx.prepare_cached(sql).await?, &[&audit.0]).await?.iter().map(found).collect()
}

/// Records a finding on a locked, open audit.
pub async fn insert_finding(tx: &Transaction, row: &FindingRow) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO findings (audit, auditor, finding, severity, reason_code, reason, correction, patch,
                                     compensate, kid)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let reason = row.reason.as_deref().map(storable);
    let parameters: [&(dyn ToSql + Sync); 10] = [
        &row.audit.0,
        &row.auditor,
        &row.opinion.finding.as_str(),
        &row.opinion.severity.map(|severity| severity.as_str()),
        &row.reason_code,
        &reason,
        &row.correction,
        &row.patch,
        &row.compensate,
        &row.kid,
    ];
    tx.execute(&tx.prepare_cached(sql).await?, &parameters).await?;
    Ok(())
}

/// Records the settled result of a locked, open audit.
pub async fn settle(tx: &Transaction, id: AuditId, settled: &Settled) -> Result<(), StoreError> {
    let sql = "UPDATE audits SET state = 'judged', finding = $2, severity = $3, judged_at = clock_timestamp()
               WHERE id = $1 AND state = 'open'";
    let severity = settled.severity.map(|severity| severity.as_str());
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&id.0, &settled.finding.as_str(), &severity]).await?;
    Ok(())
}

/// Asks another auditor about a locked, open audit.
pub async fn ask_another(tx: &Transaction, id: AuditId) -> Result<(), StoreError> {
    let sql = "UPDATE audits SET round = round + 1, published_at = clock_timestamp() WHERE id = $1 AND state = 'open'";
    tx.execute(&tx.prepare_cached(sql).await?, &[&id.0]).await?;
    Ok(())
}

/// Marks as published now those of these audits that are open and were last published more than `seconds` ago. Returns
/// their actions.
pub async fn published(tx: &Transaction, ids: &[AuditId], seconds: f64) -> Result<Vec<ActionId>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let sql = "UPDATE audits SET published_at = now()
               WHERE id = ANY($1) AND state = 'open' AND published_at < now() - make_interval(secs => $2)
               RETURNING action";
    Ok(tx.query(sql, &[&ids, &seconds]).await?.iter().map(|row| ActionId(row.get(0))).collect())
}

/// The findings of the last `limit` audits that a draw selected in a stratum, of actions executed at once under `since` or a
/// later generation, in the order in which they were settled: when the action ended, and whether it was wrong.
pub async fn settled_of(
    tx: &Transaction,
    stratum: &str,
    since: i64,
    limit: i64,
) -> Result<Vec<(DateTime<Utc>, bool)>, StoreError> {
    let sql = "SELECT ended_at, wrong FROM
                 (SELECT a.ended_at, u.finding = 'wrong' AS wrong, u.judged_at, u.id
                  FROM sampling s JOIN actions a ON a.id = s.action JOIN audits u ON u.action = s.action
                  WHERE s.stratum = $1 AND s.selected AND s.executed AND a.verdict = 'allow' AND a.generation >= $2
                    AND u.state = 'judged'
                  ORDER BY u.judged_at DESC, u.id DESC LIMIT $3) latest
               ORDER BY judged_at, id";
    let rows = tx.query(sql, &[&stratum, &since, &limit]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Whose last actions are looked at.
#[derive(Clone, Copy, Debug)]
pub struct LookBack<'a> {
    /// The strata.
    pub strata: &'a [&'a str],
    /// Only actions executed at once under this or a later generation.
    pub since: i64,
    /// Only actions that ended then or later.
    pub from: Option<DateTime<Utc>>,
}

/// An action without an audit.
#[derive(Clone, Debug)]
pub struct Unaudited {
    /// The action.
    pub action: ActionId,
    /// The group that audits it.
    pub group: String,
    /// Its stratum.
    pub stratum: String,
}

/// The look-back: of the last `count` actions those that have no audit.
pub async fn to_look_back(
    tx: &Transaction,
    look_back: &LookBack<'_>,
    count: u32,
) -> Result<Vec<Unaudited>, StoreError> {
    let sql = "SELECT id, audit_group, stratum FROM
                 (SELECT a.id, a.audit_group, s.stratum, a.ended_at FROM sampling s JOIN actions a ON a.id = s.action
                  WHERE s.stratum = ANY($1) AND s.executed AND a.verdict = 'allow' AND a.generation >= $2
                    AND ($4::timestamptz IS NULL OR a.ended_at >= $4)
                  ORDER BY a.ended_at DESC LIMIT $3) latest
               WHERE NOT EXISTS (SELECT FROM audits u WHERE u.action = latest.id) ORDER BY id";
    let LookBack { strata, since, from } = look_back;
    let rows = tx.query(sql, &[strata, since, &i64::from(count), from]).await?;
    let unaudited =
        |row: &Row| Unaudited { action: ActionId(row.get(0)), group: row.get(1), stratum: row.get(2) };
    Ok(rows.iter().map(unaudited).collect())
}

/// The actions of these audits.
pub async fn actions_of(tx: &Transaction, ids: &[AuditId]) -> Result<Vec<ActionId>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = tx.query("SELECT action FROM audits WHERE id = ANY($1)", &[&ids]).await?;
    Ok(rows.iter().map(|row| ActionId(row.get(0))).collect())
}
