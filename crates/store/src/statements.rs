//! What reviewers signed: each statement counts once, and a repetition gets the same answer.

use chrono::{DateTime, Utc};
use countersign_core::{ids::ActionId, message::ApprovalAnswer};
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::{Pipeline, StoreError, Transaction, transaction::parameters};

/// A signed statement and its results.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The key that signed it.
    pub kid: String,
    /// Unique for the key.
    pub jti: String,
    /// The id of the event that carried it.
    pub event: String,
    /// The reviewer or app that sent it.
    pub sender: String,
    /// Who signed it.
    pub reviewer: String,
    /// The signed bytes.
    pub jws: String,
    /// The values behind the digests in it.
    pub disclosures: Vec<String>,
    /// When it was signed, according to its `iat`.
    pub signed_at: DateTime<Utc>,
    /// The actions that it was about.
    pub actions: Vec<ActionId>,
    /// The actions that gold items among its findings have shown. What follows from findings does not follow for these.
    pub shown: Vec<ActionId>,
    /// One for each decision.
    pub answers: Vec<ApprovalAnswer>,
}

impl Statement {
    /// Whether `other` is the same statement in the same message of the same sender.
    pub fn is_repeated_by(&self, other: &Statement) -> bool {
        (&self.event, &self.sender, &self.jws) == (&other.event, &other.sender, &other.jws)
    }
}

/// The recorded statements among these (kid, jti).
pub async fn known(tx: &Transaction, keys: &[(&str, &str)]) -> Result<Vec<Statement>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT kid, jti, event, sender, reviewer, jws, disclosures, signed_at, actions, answers, shown
               FROM UNNEST($1::text[], $2::text[]) AS u (kid, jti) JOIN statements USING (kid, jti)";
    let (kids, jtis): (Vec<&str>, Vec<&str>) = keys.iter().copied().unzip();
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&kids, &jtis]).await?;
    let statement = |row: &tokio_postgres::Row| Statement {
        kid: row.get(0),
        jti: row.get(1),
        event: row.get(2),
        sender: row.get(3),
        reviewer: row.get(4),
        jws: row.get(5),
        disclosures: row.get(6),
        signed_at: row.get(7),
        actions: row.get::<_, Vec<Uuid>>(8).into_iter().map(ActionId).collect(),
        answers: row.get::<_, Json<Vec<ApprovalAnswer>>>(9).0,
        shown: row.get::<_, Vec<Uuid>>(10).into_iter().map(ActionId).collect(),
    };
    Ok(rows.iter().map(statement).collect())
}

/// Records new statements.
///
/// # Errors
/// A unique violation where one was recorded meanwhile: on a retry, it is among the [`known`].
pub async fn insert<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    rows: &'a [Statement],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO statements (kid, jti, event, sender, reviewer, jws, disclosures, signed_at, actions, answers,
                                       shown)
               SELECT kid, jti, event, sender, reviewer, jws, string_to_array(disclosures, ','), signed_at,
                      string_to_array(actions, ',')::uuid[], answers, string_to_array(shown, ',')::uuid[]
               FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                           $8::timestamptz[], $9::text[], $10::json[], $11::text[])
                 AS u (kid, jti, event, sender, reviewer, jws, disclosures, signed_at, actions, answers, shown)";
    let texts = |pick: fn(&Statement) -> &str| rows.iter().map(pick).collect::<Vec<&str>>();
    // Neither base64url nor ids hold a comma, and an array of arrays would have to be rectangular.
    let disclosures: Vec<String> = rows.iter().map(|row| row.disclosures.join(",")).collect();
    let signed_at: Vec<DateTime<Utc>> = rows.iter().map(|row| row.signed_at).collect();
    let joined = |ids: &[ActionId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let actions: Vec<String> = rows.iter().map(|row| joined(&row.actions)).collect();
    let shown: Vec<String> = rows.iter().map(|row| joined(&row.shown)).collect();
    let answers: Vec<Json<&[ApprovalAnswer]>> = rows.iter().map(|row| Json(row.answers.as_slice())).collect();
    let parameters = parameters![
        texts(|row| &row.kid),
        texts(|row| &row.jti),
        texts(|row| &row.event),
        texts(|row| &row.sender),
        texts(|row| &row.reviewer),
        texts(|row| &row.jws),
        disclosures,
        signed_at,
        actions,
        answers,
        shown,
    ];
    writes.add(tx, sql, parameters).await
}
