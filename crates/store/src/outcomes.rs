//! How actions ended.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use countersign_core::{
    action::State,
    digest::{Salt, salted, tagged},
    evidence::{ActionCompleted, Event, ResultLate},
    ids::ActionId,
    message::Failure,
};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::{
    Pipeline, Store, StoreError, Transaction, actions,
    actions::{ActionRecord, OutcomeRecord},
    evidence::{self, Evidence},
    notifications,
    transaction::{Parameter, parameters},
};

/// An outcome to be stored.
#[derive(Clone, Debug)]
pub struct NewOutcome {
    /// The action that ended.
    pub action: ActionId,
    /// The final state.
    pub state: State,
    /// The tool's answer, as JSON.
    pub result: Option<Vec<u8>>,
    /// Why it did not succeed.
    pub error: Option<Failure>,
    /// The id of its outcome event.
    pub event: Uuid,
}

impl NewOutcome {
    /// An outcome with a new event id and texts that can be stored.
    pub fn new(action: ActionId, state: State, result: Option<Vec<u8>>, error: Option<Failure>) -> Self {
        let error = error.map(|error| Failure {
            code: storable(&error.code),
            message: storable(&error.message),
            ..error
        });
        Self { action, state, result, error, event: Uuid::now_v7() }
    }
}

/// Stores outcomes. `seq` is 1, or 2 for the resolution of one in doubt. An existing one stays.
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
    let sql = "INSERT INTO outcomes (action, seq, event, outcome, result, error_code, error_message, retry_at)
             SELECT action, $1, event, outcome, result, code, message, retry_at
             FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::timestamptz[])
               AS u (action, event, outcome, result, code, message, retry_at)
             ON CONFLICT (action, seq) DO NOTHING";
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let events: Vec<Uuid> = rows.iter().map(|row| row.event).collect();
    let outcomes: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
    let results: Vec<Option<&[u8]>> = rows.iter().map(|row| row.result.as_deref()).collect();
    let (codes, messages): (Vec<Option<&str>>, Vec<Option<&str>>) = rows.iter().copied().map(error).unzip();
    let retries: Vec<Option<DateTime<Utc>>> =
        rows.iter().map(|row| row.error.as_ref().and_then(|error| error.retry_at)).collect();
    writes.add(tx, sql, parameters![seq, actions, events, outcomes, results, codes, messages, retries]).await
}

/// The error's code and message.
fn error(outcome: &NewOutcome) -> (Option<&str>, Option<&str>) {
    let error = outcome.error.as_ref();
    (error.map(|error| error.code.as_str()), error.map(|error| error.message.as_str()))
}

/// PostgreSQL's text cannot hold NUL, which foreign texts may contain.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// How an execution ended, with its evidence.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The claim that it ended under.
    pub fence: i32,
    /// The outcome.
    pub outcome: NewOutcome,
    /// The evidence of it.
    pub evidence: Evidence,
}

/// An action that has ended, with its record if that can be read.
pub type Read = (ActionId, Result<ActionRecord, StoreError>);

/// The actions that one statement has ended.
pub struct Moved {
    /// The actions.
    pub actions: Vec<Read>,
    /// The note that their outcomes are to be published ([`crate::notifications`]); `None` without actions.
    pub note: Option<i64>,
}

/// Ends actions that are executing under these claims, in one trip; no action twice, and at most 500. Leaves out those
/// that another executor has taken over and those that have already ended.
pub async fn end(store: &Store, rows: &[Ended]) -> Result<Moved, StoreError> {
    let client = store.client().await?;
    let (sql, values) = ending(rows);
    let statement = client.prepare_cached(&sql).await?;
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as _).collect();
    let moved = client.query(&statement, &values).await?;
    let note = moved.first().and_then(|row| row.get("note"));
    Ok(Moved { actions: ended(rows, &moved), note })
}

/// A statement that ends the actions that are still executing under their claims, and writes their outcomes, their
/// evidence and the note that their agents are to be notified.
///
/// Its conditions are on the updated row: if it changes concurrently, PostgreSQL checks them again on the new version,
/// or skips the row. Joined rows stay as they were first read.
fn ending(rows: &[Ended]) -> (String, Vec<Parameter<'_>>) {
    let sql = format!(
        "WITH ended AS (
           UPDATE actions a SET state = u.state, lease_until = NULL,
                  ended_at = clock_timestamp(), state_at = clock_timestamp()
           FROM UNNEST($1::uuid[], $2::int[], $3::text[], $4::uuid[], $5::bytea[], $6::text[], $7::text[],
                       $8::uuid[], $9::text[], $10::text[])
             AS u (action, fence, state, event, result, code, message, noted, kind, body)
           CROSS JOIN LATERAL (SELECT ctid FROM actions WHERE id = u.action LIMIT 1) here
           WHERE a.ctid = here.ctid AND a.fence = u.fence AND a.state = 'executing'
           RETURNING a.*, u.event, u.result, u.code, u.message, u.noted, u.kind, u.body),
         stored AS (
           INSERT INTO outcomes (action, seq, event, outcome, result, error_code, error_message)
           SELECT id, 1, event, state, result, code, message FROM ended ON CONFLICT (action, seq) DO NOTHING),
         {pending},
         {written}
         SELECT {columns}, (SELECT id FROM notified) AS note FROM ended",
        columns = actions::COLUMNS,
        pending = notifications::noted("SELECT id FROM ended"),
        written = evidence::written("SELECT noted, id, kind, body::json FROM ended"),
    );
    let outcomes = || rows.iter().map(|row| &row.outcome);
    let actions: Vec<Uuid> = outcomes().map(|outcome| outcome.action.0).collect();
    let fences: Vec<i32> = rows.iter().map(|row| row.fence).collect();
    let states: Vec<&str> = outcomes().map(|outcome| outcome.state.as_str()).collect();
    let events: Vec<Uuid> = outcomes().map(|outcome| outcome.event).collect();
    let results: Vec<Option<&[u8]>> = outcomes().map(|outcome| outcome.result.as_deref()).collect();
    let (codes, messages): (Vec<Option<&str>>, Vec<Option<&str>>) = outcomes().map(error).unzip();
    let noted: Vec<Uuid> = rows.iter().map(|_| Uuid::now_v7()).collect();
    let kinds: Vec<&str> = rows.iter().map(|row| row.evidence.kind()).collect();
    let bodies: Vec<String> = rows.iter().map(|row| row.evidence.body()).collect();
    (sql, parameters![actions, fences, states, events, results, codes, messages, noted, kinds, bodies])
}

/// The actions that [`ending`] has ended.
fn ended(rows: &[Ended], moved: &[Row]) -> Vec<Read> {
    let outcomes: HashMap<ActionId, &NewOutcome> =
        rows.iter().map(|row| (row.outcome.action, &row.outcome)).collect();
    let read = |row: &Row| {
        let id = ActionId(row.get("id"));
        let record = actions::action(row).map(|record| ActionRecord {
            outcome: outcomes.get(&id).map(|outcome| OutcomeRecord {
                seq: 1,
                event: outcome.event,
                result: outcome.result.clone(),
                error: outcome.error.clone(),
            }),
            ..record
        });
        (id, record)
    };
    moved.iter().map(read).collect()
}

/// Locks actions. Returns those that are executing, and under which fence: the result of any other is late.
pub async fn lock_executing(
    tx: &Transaction,
    ids: &[ActionId],
) -> Result<HashMap<ActionId, i32>, StoreError> {
    let mut reads = Pipeline::default();
    actions::locking(tx, &mut reads, ids).await?;
    let rows = tx.run(&reads).await?;
    let executing = rows.iter().flatten().filter(|row| row.get::<_, &str>(2) == State::Executing.as_str());
    Ok(executing.map(|row| (ActionId(row.get(0)), row.get(1))).collect())
}

/// Stores the outcomes of locked claims, and results that came too late.
pub async fn settle(tx: &Transaction, ended: &[Ended], late: &[LateResult]) -> Result<(), StoreError> {
    let mut writes = Pipeline::default();
    for rows in ended.chunks(evidence::NOTE_MAX) {
        let (sql, values) = ending(rows);
        writes.add(tx, &sql, values).await?;
    }
    keep(tx, &mut writes, late).await?;
    let noted: Vec<Evidence> = late.iter().map(LateResult::evidence).collect();
    evidence::write(tx, &mut writes, &noted).await?;
    tx.run(&writes).await.map(drop)
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
    result: Option<Vec<u8>>,
    salt: Salt,
    completed: ActionCompleted,
}

impl LateResult {
    /// `salt` makes the digest safe to keep after the result is erased; `completed` is how the call ended.
    pub fn new(action: ActionId, result: Option<Vec<u8>>, salt: Salt, completed: ActionCompleted) -> Self {
        Self { id: Uuid::now_v7(), action, result, salt, completed }
    }

    /// Its evidence, with the id of the stored result and its salted digest.
    fn evidence(&self) -> Evidence {
        let ActionCompleted { state, fence, attempts, error_code, .. } = self.completed.clone();
        let late_result = self.id.to_string();
        let result_digest = self.result.as_ref().map(|result| tagged(&salted(&self.salt, result)));
        let noted = ResultLate { state, fence, attempts, error_code, late_result, result_digest };
        Evidence::of(self.action, Event::ResultLate(noted))
    }
}

/// Keeps late answers, each behind its salt.
async fn keep(tx: &Transaction, writes: &mut Pipeline<'_>, rows: &[LateResult]) -> Result<(), StoreError> {
    for row in rows {
        let result = row.result.as_ref().map(|result| [row.salt.as_slice(), result].concat());
        let sql = "INSERT INTO late_results (id, action, fence, result) VALUES ($1, $2, $3, $4)";
        writes.add(tx, sql, parameters![row.id, row.action.0, row.completed.fence, result]).await?;
    }
    Ok(())
}
