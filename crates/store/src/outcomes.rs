//! How actions ended.

use countersign_core::{
    action::State,
    digest::{Salt, salted, tagged},
    ids::ActionId,
    message::Failure,
};
use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::{StoreError, actions};

/// An outcome to be stored.
#[derive(Clone, Debug)]
pub struct NewOutcome {
    /// Whose.
    pub action: ActionId,
    /// The final state.
    pub state: State,
    /// The tool's answer, as JSON.
    pub result: Option<Vec<u8>>,
    /// Why it did not succeed.
    pub error: Option<Failure>,
}

/// Stores outcomes. `seq` is 1, or 2 for the resolution of one in doubt. One that is there already stays.
pub async fn insert(tx: &Transaction<'_>, seq: i16, rows: &[NewOutcome]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO outcomes (action, seq, event, outcome, result, error_code, error_message)
             SELECT action, $1, event, outcome, result, code, message
             FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::text[])
               AS u (action, event, outcome, result, code, message)
             ON CONFLICT (action, seq) DO NOTHING",
        )
        .await?;
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let events: Vec<Uuid> = rows.iter().map(|_| Uuid::now_v7()).collect();
    let outcomes: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
    let results: Vec<Option<&[u8]>> = rows.iter().map(|row| row.result.as_deref()).collect();
    let error =
        |row: &NewOutcome, pick: fn(&Failure) -> &String| row.error.as_ref().map(|e| storable(pick(e)));
    let codes: Vec<Option<String>> = rows.iter().map(|row| error(row, |e| &e.code)).collect();
    let messages: Vec<Option<String>> = rows.iter().map(|row| error(row, |e| &e.message)).collect();
    tx.execute(&statement, &[&seq, &actions, &events, &outcomes, &results, &codes, &messages]).await?;
    Ok(())
}

/// PostgreSQL's text has no NUL; what others say may hold one.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Records completions of claims whose fence is still theirs. `rows`: action, fence, final state. Returns
/// the actions it held for; for the others somebody else has taken over, and the result is late.
pub async fn complete(
    tx: &Transaction<'_>,
    rows: &[(ActionId, i32, State)],
) -> Result<Vec<ActionId>, StoreError> {
    let statement = tx
        .prepare_cached(
            "UPDATE actions a SET state = u.state, lease_until = NULL,
                    ended_at = clock_timestamp(), state_at = clock_timestamp()
             FROM UNNEST($1::uuid[], $2::int[], $3::text[]) AS u (id, fence, state)
             CROSS JOIN LATERAL (SELECT ctid, fence, state FROM actions WHERE id = u.id LIMIT 1) here
             WHERE a.ctid = here.ctid AND here.fence = u.fence AND here.state = 'executing'
             RETURNING a.id",
        )
        .await?;
    let actions: Vec<Uuid> = rows.iter().map(|row| row.0.0).collect();
    let fences: Vec<i32> = rows.iter().map(|row| row.1).collect();
    let states: Vec<&str> = rows.iter().map(|row| row.2.as_str()).collect();
    // First the locks, in the order in which everybody takes them: a decision that comes late takes them too. A statement that is
    // prepared is sent when it is first polled, so the server has them in this order, each with a snapshot of its own.
    let lock = actions::lock_statement(tx).await?;
    let ids: [&(dyn ToSql + Sync); 1] = [&actions];
    let parameters: [&(dyn ToSql + Sync); 3] = [&actions, &fences, &states];
    let (_, done) = tokio::try_join!(biased; tx.query(&lock, &ids), tx.query(&statement, &parameters))?;
    Ok(done.iter().map(|row| ActionId(row.get(0))).collect())
}

/// Resolves a locked action in doubt.
pub async fn resolve(tx: &Transaction<'_>, action: ActionId, state: State) -> Result<(), StoreError> {
    let sql = "UPDATE actions SET state = $2, ended_at = clock_timestamp(), state_at = clock_timestamp()
               WHERE id = $1 AND state = 'in_doubt'";
    tx.execute(sql, &[&action.0, &state.as_str()]).await?;
    Ok(())
}

/// An answer to a call that had been given up.
#[derive(Clone, Debug)]
pub struct LateResult {
    id: Uuid,
    action: ActionId,
    fence: i32,
    result: Option<Vec<u8>>,
    salt: Salt,
}

impl LateResult {
    /// `salt` keeps the digest safe to keep when the result is erased.
    pub fn new(action: ActionId, fence: i32, result: Option<Vec<u8>>, salt: Salt) -> Self {
        Self { id: Uuid::now_v7(), action, fence, result, salt }
    }

    /// What evidence says of it, added to `noted`: where it is, and its salted digest.
    pub fn noted(&self, mut noted: serde_json::Value) -> serde_json::Value {
        noted["late_result"] = self.id.to_string().into();
        if let Some(result) = &self.result {
            noted["result_digest"] = tagged(&salted(&self.salt, result)).into();
        }
        noted
    }
}

/// Keeps late answers, each behind its salt.
pub async fn late(tx: &Transaction<'_>, rows: &[LateResult]) -> Result<(), StoreError> {
    for row in rows {
        let result = row.result.as_ref().map(|result| [row.salt.as_slice(), result].concat());
        let sql = "INSERT INTO late_results (id, action, fence, result) VALUES ($1, $2, $3, $4)";
        tx.execute(sql, &[&row.id, &row.action.0, &row.fence, &result]).await?;
    }
    Ok(())
}
