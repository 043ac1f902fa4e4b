//! How actions ended.

use std::collections::HashMap;

use countersign_core::{
    action::State,
    digest::{Salt, salted, tagged},
    ids::ActionId,
    message::Failure,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Pipeline, Store, StoreError, Transaction, actions,
    actions::{ActionRecord, OutcomeRecord, Parts},
    evidence::{self, Evidence},
    payloads,
    transaction::parameters,
};

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
    /// The id of the event that tells it.
    pub event: Uuid,
}

impl NewOutcome {
    /// Told by an event of its own, in words that can be stored.
    pub fn new(action: ActionId, state: State, result: Option<Vec<u8>>, error: Option<Failure>) -> Self {
        let error =
            error.map(|error| Failure { code: storable(&error.code), message: storable(&error.message) });
        Self { action, state, result, error, event: Uuid::now_v7() }
    }
}

/// Stores outcomes. `seq` is 1, or 2 for the resolution of one in doubt. One that is there already stays.
pub async fn insert<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    seq: i16,
    rows: impl IntoIterator<Item = &'a NewOutcome>,
) -> Result<(), StoreError> {
    let rows: Vec<&NewOutcome> = rows.into_iter().collect();
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO outcomes (action, seq, event, outcome, result, error_code, error_message)
             SELECT action, $1, event, outcome, result, code, message
             FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::text[])
               AS u (action, event, outcome, result, code, message)
             ON CONFLICT (action, seq) DO NOTHING";
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let events: Vec<Uuid> = rows.iter().map(|row| row.event).collect();
    let outcomes: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
    let results: Vec<Option<&[u8]>> = rows.iter().map(|row| row.result.as_deref()).collect();
    let errors = || rows.iter().map(|row| row.error.as_ref());
    let codes: Vec<Option<&str>> = errors().map(|error| error.map(|error| error.code.as_str())).collect();
    let messages: Vec<Option<&str>> =
        errors().map(|error| error.map(|error| error.message.as_str())).collect();
    writes.add(tx, sql, parameters![seq, actions, events, outcomes, results, codes, messages]).await
}

/// PostgreSQL's text has no NUL; what others say may hold one.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Who still holds what, under its lock.
#[derive(Debug, Default)]
pub struct Held {
    /// Actions that are executing, and under which fence. Anybody else's result is late.
    pub fences: HashMap<ActionId, i32>,
    /// The salts of the actions.
    pub salts: HashMap<ActionId, Salt>,
}

/// Begins a transaction that locks these actions and reads who holds them, in one trip.
pub async fn begin(store: &Store, ids: &[ActionId]) -> Result<(Transaction, Held), StoreError> {
    let client = store.client().await?;
    let mut reads = Pipeline::default();
    actions::locking(&client, &mut reads, ids).await?;
    payloads::salts(&client, &mut reads, ids).await?;
    let (tx, rows) = Transaction::begin_with(client, &reads).await?;
    Ok((tx, held(&rows)))
}

/// The same within a transaction.
pub async fn hold(tx: &Transaction, ids: &[ActionId]) -> Result<Held, StoreError> {
    let mut reads = Pipeline::default();
    actions::locking(tx, &mut reads, ids).await?;
    payloads::salts(tx, &mut reads, ids).await?;
    Ok(held(&tx.run(&reads).await?))
}

fn held(rows: &[Vec<Row>]) -> Held {
    let [locked, salts] = rows else { return Held::default() };
    let executing = locked.iter().filter(|row| row.get::<_, &str>(2) == State::Executing.as_str());
    let fences = executing.map(|row| (ActionId(row.get(0)), row.get(1))).collect();
    Held { fences, salts: payloads::salts_of(salts) }
}

/// What results leave to be written.
#[derive(Debug, Default)]
pub struct Results {
    /// How actions ended whose claims, locked, are still theirs, and under which fence.
    pub ended: Vec<(i32, NewOutcome)>,
    /// Results that came too late.
    pub late: Vec<LateResult>,
    /// What is noted of both.
    pub evidence: Vec<Evidence>,
}

impl Results {
    /// Writes them.
    pub async fn write(&self, tx: &Transaction) -> Result<(), StoreError> {
        tx.run(&self.writes(tx).await?).await.map(drop)
    }

    /// Writes them and commits, in one trip. Returns the actions that have ended, and `others` as they are then.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where it is committed, and an action cannot be read.
    pub async fn commit(
        &self,
        tx: Transaction,
        others: &[ActionId],
    ) -> Result<Vec<ActionRecord>, StoreError> {
        let mut writes = self.writes(&tx).await?;
        if !others.is_empty() {
            actions::loading(&tx, &mut writes, others, Parts::Outcome).await?;
        }
        let rows = tx.commit_with(&writes).await?;
        let mut records = if others.is_empty() { Vec::new() } else { actions::loaded(&rows)? };
        let outcomes: HashMap<ActionId, &NewOutcome> =
            self.ended.iter().map(|(_, outcome)| (outcome.action, outcome)).collect();
        for row in rows.first().filter(|_| !self.ended.is_empty()).into_iter().flatten() {
            let mut record = actions::action(row)?;
            record.outcome = outcomes.get(&record.id).map(|outcome| OutcomeRecord {
                seq: 1,
                event: outcome.event,
                result: outcome.result.clone(),
                error: outcome.error.clone(),
            });
            records.push(record);
        }
        Ok(records)
    }

    async fn writes(&self, tx: &Transaction) -> Result<Pipeline<'_>, StoreError> {
        let mut writes = Pipeline::default();
        if !self.ended.is_empty() {
            complete(tx, &mut writes, &self.ended).await?;
        }
        late(tx, &mut writes, &self.late).await?;
        insert(tx, &mut writes, 1, self.ended.iter().map(|(_, outcome)| outcome)).await?;
        evidence::write(tx, &mut writes, &self.evidence).await?;
        Ok(writes)
    }
}

/// Its rows are the actions as it leaves them.
async fn complete(
    tx: &Transaction,
    writes: &mut Pipeline<'_>,
    rows: &[(i32, NewOutcome)],
) -> Result<(), StoreError> {
    let sql = "UPDATE actions a SET state = u.state, lease_until = NULL,
                      ended_at = clock_timestamp(), state_at = clock_timestamp()
               FROM UNNEST($1::uuid[], $2::int[], $3::text[]) AS u (id, fence, state)
               CROSS JOIN LATERAL (SELECT ctid, fence, state FROM actions WHERE id = u.id LIMIT 1) here
               WHERE a.ctid = here.ctid AND here.fence = u.fence AND here.state = 'executing'
               RETURNING a.*, false AS interrupted, clock_timestamp() AS now";
    let actions: Vec<Uuid> = rows.iter().map(|row| row.1.action.0).collect();
    let fences: Vec<i32> = rows.iter().map(|row| row.0).collect();
    let states: Vec<&'static str> = rows.iter().map(|row| row.1.state.as_str()).collect();
    writes.add(tx, sql, parameters![actions, fences, states]).await
}

/// Resolves a locked action in doubt.
pub async fn resolve(tx: &Transaction, action: ActionId, state: State) -> Result<(), StoreError> {
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
async fn late(tx: &Transaction, writes: &mut Pipeline<'_>, rows: &[LateResult]) -> Result<(), StoreError> {
    for row in rows {
        let result = row.result.as_ref().map(|result| [row.salt.as_slice(), result].concat());
        let sql = "INSERT INTO late_results (id, action, fence, result) VALUES ($1, $2, $3, $4)";
        writes.add(tx, sql, parameters![row.id, row.action.0, row.fence, result]).await?;
    }
    Ok(())
}
