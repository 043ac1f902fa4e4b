//! Erasing a person's data, and legal holds against it. Evidence stays, and records that something was erased.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use countersign_core::{
    digest::{Salt, salted},
    evidence::{Event, LegalHoldNoted, PayloadErased, QuarantineErased},
    ids::ActionId,
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    StoreError, Transaction,
    evidence::{self, Evidence},
    gold,
    held::{STORED_OF_ACTION, each_string, held_of, held_people},
};

/// What a legal hold covers.
#[derive(Clone, Debug)]
pub enum Held {
    /// Everything about a person, who is stored as a salted digest.
    Subject(String),
    /// One action.
    Action(ActionId),
}

/// Places a legal hold. Returns its id.
pub async fn place_hold(
    tx: &Transaction,
    what: &Held,
    salt: &Salt,
    reason: &str,
    by: &str,
) -> Result<i64, StoreError> {
    gold::exclude_erasure(tx).await?;
    let (subject, action) = match what {
        Held::Subject(subject) => (Some(salted(salt, subject.as_bytes())), None),
        Held::Action(action) => (None, Some(action.0)),
    };
    let salt = subject.map(|_| salt.as_slice());
    let sql = "INSERT INTO legal_holds (salt, subject, action, reason, placed_by) VALUES ($1, $2, $3, $4, $5)
               RETURNING id";
    let subject = subject.as_ref().map(|digest| digest.as_slice());
    let id: i64 = tx.query_one(sql, &[&salt, &subject, &action, &reason, &by]).await?.get(0);
    let noted = LegalHoldNoted { hold: id, by: by.into() };
    evidence::insert(tx, &[Evidence::about(action.map(ActionId), Event::LegalHoldPlaced(noted))]).await?;
    let shown = gold::shown(tx).await?;
    gold::withdraw(tx, &Vec::from_iter(held_of(tx, &shown).await?)).await?;
    Ok(id)
}

/// Releases a legal hold.
///
/// # Errors
/// [`StoreError::Refused`] where there is no such hold, or it has been released.
pub async fn release_hold(tx: &Transaction, id: i64, by: &str) -> Result<(), StoreError> {
    let sql = "UPDATE legal_holds SET released_by = $2, released_at = clock_timestamp()
               WHERE id = $1 AND released_at IS NULL RETURNING action";
    let row = tx.query_opt(sql, &[&id, &by]).await?;
    let row = row.ok_or_else(|| StoreError::Refused(format!("there is no open legal hold {id}")))?;
    let (action, noted) = (row.get::<_, Option<Uuid>>(0), LegalHoldNoted { hold: id, by: by.into() });
    evidence::insert(tx, &[Evidence::about(action.map(ActionId), Event::LegalHoldReleased(noted))]).await
}

/// A legal hold.
#[derive(Clone, Debug, Serialize)]
pub struct LegalHold {
    /// Its id.
    pub id: i64,
    /// The action, if it is about one and not about a person.
    pub action: Option<Uuid>,
    /// Why it was placed.
    pub reason: String,
    /// The operator who placed it.
    pub placed_by: String,
    /// When it was placed.
    pub placed_at: DateTime<Utc>,
    /// When it was released.
    pub released_at: Option<DateTime<Utc>>,
}

/// All legal holds, the newest first.
pub async fn holds(tx: &Transaction) -> Result<Vec<LegalHold>, StoreError> {
    let sql =
        "SELECT id, action, reason, placed_by, placed_at, released_at FROM legal_holds ORDER BY id DESC";
    let hold = |row: &tokio_postgres::Row| LegalHold {
        id: row.get(0),
        action: row.get(1),
        reason: row.get(2),
        placed_by: row.get(3),
        placed_at: row.get(4),
        released_at: row.get(5),
    };
    Ok(tx.query(sql, &[]).await?.iter().map(hold).collect())
}

/// Open holds that forbid erasing a person's data: on one of these actions, on the person, or on anybody else who is
/// named in that data.
async fn forbidding(tx: &Transaction, subject: &str, actions: &[Uuid]) -> Result<BTreeSet<i64>, StoreError> {
    // Nobody can place another hold until the erasure is committed.
    tx.execute("LOCK TABLE legal_holds IN SHARE ROW EXCLUSIVE MODE", &[]).await?;
    let sql = "SELECT id FROM legal_holds WHERE released_at IS NULL AND action = ANY($1)";
    let mut forbidding: BTreeSet<i64> =
        tx.query(sql, &[&actions]).await?.iter().map(|row| row.get(0)).collect();
    let people = held_people(tx).await?;
    let mut about = |name: &str| {
        forbidding.extend(people.iter().filter(|person| person.is(name)).map(|person| person.hold));
    };
    about(subject);
    if !people.is_empty() {
        let quoted = Value::from(subject).to_string();
        for row in tx
            .query(
                "SELECT body FROM quarantine WHERE position(convert_to($1, 'UTF8') IN body) > 0",
                &[&quoted],
            )
            .await?
        {
            each_string(row.get(0), &mut about);
        }
        for action in actions {
            for row in tx.query(&tx.prepare_cached(STORED_OF_ACTION).await?, &[action]).await? {
                each_string(row.get(0), &mut about);
            }
        }
    }
    Ok(forbidding)
}

/// These actions, and all others that a statement about one of them covers: it loses its free text for all of them.
async fn affected(tx: &Transaction, actions: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    let sql = "SELECT unnest($1::uuid[]) UNION
               SELECT unnest(actions || shown) FROM statements
               WHERE (actions && $1 OR shown && $1) AND disclosures <> '{}'";
    Ok(tx.query(sql, &[&actions]).await?.iter().map(|row| row.get(0)).collect())
}

/// What was erased.
#[derive(Clone, Debug, Serialize)]
pub struct Erased {
    /// The erasure.
    pub id: Uuid,
    /// The parts that were erased, by action.
    pub actions: BTreeMap<ActionId, BTreeSet<&'static str>>,
    /// Quarantined messages that were emptied.
    pub quarantined: u64,
}

/// The parts of an action that can be erased: a name, and the statement, which returns the actions.
const PARTS: &[(&str, &str)] = &[
    (
        "content",
        "UPDATE payloads SET body = '', content = NULL, edited = NULL, salt = decode(repeat('00', 16), 'hex'),
                content_salt = NULL WHERE action = ANY($1) RETURNING action",
    ),
    (
        "result",
        "UPDATE outcomes SET result = NULL, error_message = NULL
         WHERE action = ANY($1) AND (result IS NOT NULL OR error_message IS NOT NULL) RETURNING action",
    ),
    (
        "late result",
        "UPDATE late_results SET result = NULL WHERE action = ANY($1) AND result IS NOT NULL RETURNING action",
    ),
    (
        "finding",
        "UPDATE findings f SET reason = NULL, correction = NULL, patch = NULL FROM audits u
         WHERE u.id = f.audit AND u.action = ANY($1)
           AND (f.reason IS NOT NULL OR f.correction IS NOT NULL OR f.patch IS NOT NULL) RETURNING u.action",
    ),
    (
        "finding",
        "UPDATE gold_findings f SET reason = NULL, correction = NULL, patch = NULL FROM gold_items g, audits u
         WHERE g.id = f.item AND u.id = g.audit AND u.action = ANY($1)
           AND (f.reason IS NOT NULL OR f.correction IS NOT NULL OR f.patch IS NOT NULL) RETURNING u.action",
    ),
    (
        "remediation",
        "UPDATE remediations SET evidence = 'erased'
         WHERE action = ANY($1) AND evidence IS NOT NULL AND evidence <> 'erased' RETURNING action",
    ),
    (
        "reason",
        "UPDATE decisions SET reason = NULL WHERE action = ANY($1) AND reason IS NOT NULL RETURNING action",
    ),
    // A statement covers several actions: its disclosures are gone for all of them.
    (
        "disclosure",
        "WITH emptied AS (UPDATE statements SET disclosures = '{}'
                          WHERE (actions && $1 OR shown && $1) AND disclosures <> '{}' RETURNING actions || shown AS all_of)
         SELECT unnest(all_of) FROM emptied",
    ),
];

/// Erases everything that is stored about a person: in every action whose message, content or result contains `subject`
/// as a JSON string. The evidence of each action names the parts.
///
/// # Errors
/// [`StoreError::Refused`] where a legal hold covers any of the data, or one of the actions has not ended.
pub async fn erase(tx: &Transaction, subject: &str, by: &str) -> Result<Erased, StoreError> {
    gold::exclude_erasure(tx).await?;
    let quoted = Value::from(subject).to_string();
    let actions = about_subject(tx, &quoted).await?;
    let affected = affected(tx, &actions).await?;
    let holds = forbidding(tx, subject, &affected).await?;
    if !holds.is_empty() {
        let holds = Vec::from_iter(holds);
        return Err(StoreError::Refused(format!("legal holds forbid it: {holds:?}; nothing was erased")));
    }
    let sql = "SELECT event_id FROM actions WHERE id = ANY($1) AND ended_at IS NULL LIMIT 1";
    if let Some(open) = tx.query_opt(sql, &[&affected]).await? {
        let id: String = open.get(0);
        return Err(StoreError::Refused(format!("the action {id:?} has not ended yet; nothing was erased")));
    }
    gold::withdraw(tx, &actions).await?;
    let mut erased = Erased { id: Uuid::now_v7(), actions: BTreeMap::new(), quarantined: 0 };
    for (part, sql) in PARTS {
        for row in tx.query(*sql, &[&actions]).await? {
            erased.actions.entry(ActionId(row.get(0))).or_default().insert(part);
        }
    }
    let sql = "UPDATE quarantine SET body = '', message = 'erased'
               WHERE position(convert_to($1, 'UTF8') IN body) > 0";
    erased.quarantined = tx.execute(sql, &[&quoted]).await?;
    let ids: Vec<Uuid> = erased.actions.keys().map(|action| action.0).collect();
    let sql = "INSERT INTO erasures (id, erased_by, actions) VALUES ($1, $2, $3)";
    tx.execute(sql, &[&erased.id, &by, &ids]).await?;
    let noted = |(action, parts): (&ActionId, &BTreeSet<&str>)| {
        let parts = parts.iter().map(|part| (*part).to_owned()).collect();
        let noted = PayloadErased { erasure: erased.id, by: by.into(), parts };
        Evidence::of(*action, Event::PayloadErased(noted))
    };
    let mut rows: Vec<Evidence> = erased.actions.iter().map(noted).collect();
    if erased.quarantined > 0 {
        let noted = QuarantineErased { erasure: erased.id, by: by.into(), messages: erased.quarantined };
        rows.push(Evidence::global(Event::QuarantineErased(noted)));
    }
    evidence::insert(tx, &rows).await?;
    Ok(erased)
}

/// The actions of which a stored value contains this JSON string. Searches everything: erasing is rare.
async fn about_subject(tx: &Transaction, quoted: &str) -> Result<Vec<Uuid>, StoreError> {
    let sql = "SELECT action FROM payloads
               WHERE position(convert_to($1, 'UTF8') IN body) > 0 OR position(convert_to($1, 'UTF8') IN content) > 0
                  OR position(convert_to($1, 'UTF8') IN edited) > 0
               UNION SELECT action FROM outcomes WHERE position(convert_to($1, 'UTF8') IN result) > 0
               UNION SELECT action FROM late_results WHERE position(convert_to($1, 'UTF8') IN result) > 0
               UNION SELECT u.action FROM findings f JOIN audits u ON u.id = f.audit
                     WHERE position(convert_to($1, 'UTF8') IN f.correction) > 0
               UNION SELECT u.action FROM gold_findings f JOIN gold_items g ON g.id = f.item JOIN audits u ON u.id = g.audit
                     WHERE position(convert_to($1, 'UTF8') IN f.correction) > 0";
    Ok(tx.query(sql, &[&quoted]).await?.iter().map(|row| row.get(0)).collect())
}
