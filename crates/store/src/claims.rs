//! The claim: one conditional UPDATE that makes a permit single-use.

use chrono::{DateTime, Utc};
use countersign_core::{
    evidence::Kind,
    ids::{ActionId, PermitId},
};
use uuid::Uuid;

use crate::{Client, StoreError, Transaction, evidence};

/// A claimed action, which may be executed until its lease expires.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The action.
    pub action: ActionId,
    /// Results count only under this fence.
    pub fence: i32,
    /// The proposal's `source`.
    pub source: String,
    /// The proposal's `id`.
    pub event_id: String,
    /// The tool.
    pub tool: String,
    /// What a human approved or policy allowed, in canonical form.
    pub content: Option<Vec<u8>>,
    /// The salt of the permit's digest.
    pub content_salt: Vec<u8>,
    /// The salt of its result's digest: the proposal's, so that one erasure covers both.
    pub salt: Vec<u8>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Whether the action's own deadline has passed.
    pub late: bool,
    /// How many seconds the claim waited for locks. The lease runs from the end of the wait.
    pub waited: f64,
}

fn claim_of(row: &tokio_postgres::Row) -> Claim {
    Claim {
        action: ActionId(row.get(0)),
        fence: row.get(1),
        source: row.get(2),
        event_id: row.get(3),
        tool: row.get(4),
        content: row.get(5),
        content_salt: row.get(6),
        salt: row.get(7),
        traceparent: row.get(8),
        late: row.get(9),
        waited: row.get(10),
    }
}

/// A claim that a permit asks for.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest {
    /// The action to claim.
    pub action: ActionId,
    /// The permit that authorises it.
    pub permit: PermitId,
    /// When the permit expires.
    pub expires_at: DateTime<Utc>,
    /// The lease, in seconds.
    pub lease: f64,
    /// Whether an interrupted attempt may be repeated.
    pub repeatable: bool,
}

/// The most requests that [`claim`] accepts.
pub const BATCH_MAX: usize = evidence::NOTE_MAX;

/// Claims every action whose permit is still in force, of the active generation and unexpired: an authorised action, or
/// one whose attempt was interrupted, if its permit was issued after that. One statement, which also writes the
/// evidence, within a transaction or as one of its own.
///
/// Needs no locks beforehand. The generation cannot change until the claim is committed. All conditions on an action
/// are on the updated row: if it changes concurrently, PostgreSQL checks them again on the new version, or skips the
/// row.
///
/// A caller that stops waiting does not undo the claim: an action that was claimed after all counts as interrupted when
/// its lease expires.
pub async fn claim(
    client: &Client,
    generation: i64,
    rows: &[ClaimRequest],
) -> Result<Vec<Claim>, StoreError> {
    let noted =
        "json_build_object('state', 'executing', 'permit', permit, 'fence', fence, 'generation', generation)";
    let sql = format!(
        "WITH in_force AS MATERIALIZED (SELECT generation FROM active FOR SHARE),
         claimed AS (
           UPDATE actions a SET state = 'executing', fence = a.fence + 1, state_at = clock_timestamp(),
                  started_at = coalesce(a.started_at, clock_timestamp()),
                  lease_until = clock_timestamp() + make_interval(secs => u.lease)
           FROM in_force
           CROSS JOIN UNNEST($2::uuid[], $3::uuid[], $4::timestamptz[], $5::float8[], $6::bool[], $7::uuid[])
             AS u (action, permit, expires_at, lease, repeatable, noted)
           CROSS JOIN LATERAL (SELECT ctid FROM actions WHERE id = u.action LIMIT 1) here
           CROSS JOIN LATERAL (SELECT content, content_salt, salt FROM payloads WHERE action = u.action LIMIT 1) p
           WHERE in_force.generation = $1 AND u.expires_at > clock_timestamp()
             AND a.ctid = here.ctid AND a.permit = u.permit AND a.generation = $1
             AND (a.state = 'authorised'
                  OR (u.repeatable AND a.state = 'executing' AND a.lease_until < clock_timestamp()
                      AND EXISTS (SELECT FROM permits q WHERE q.id = a.permit AND q.issued_at >= a.lease_until)))
             AND (a.expires_at IS NULL OR a.expires_at > clock_timestamp())
           RETURNING a.id, a.fence, a.source, a.event_id, a.tool, a.traceparent, a.permit, a.generation,
                     extract(epoch FROM a.state_at - statement_timestamp())::float8 AS waited,
                     p.content, COALESCE(p.content_salt, p.salt) AS content_salt, p.salt, u.noted),
         {written}
         SELECT id, fence, source, event_id, tool, content, content_salt, salt, traceparent, false, waited
         FROM claimed",
        written = evidence::written(&format!("SELECT noted, id, '{}', {noted} FROM claimed", Kind::ActionClaimed)),
    );
    let statement = client.prepare_cached(&sql).await?;
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let permits: Vec<Uuid> = rows.iter().map(|row| row.permit.0).collect();
    let expire: Vec<DateTime<Utc>> = rows.iter().map(|row| row.expires_at).collect();
    let leases: Vec<f64> = rows.iter().map(|row| row.lease).collect();
    let repeatable: Vec<bool> = rows.iter().map(|row| row.repeatable).collect();
    let noted: Vec<Uuid> = rows.iter().map(|_| Uuid::now_v7()).collect();
    let claimed = client
        .query(&statement, &[&generation, &actions, &permits, &expire, &leases, &repeatable, &noted])
        .await?;
    Ok(claimed.iter().map(claim_of).collect())
}

/// Extends a claim's lease to `lease` seconds from now. `false` if the claim is no longer in force: its lease has expired, another
/// generation is active, or the action's own deadline has passed.
pub async fn renew(client: &Client, action: ActionId, fence: i32, lease: f64) -> Result<bool, StoreError> {
    let sql = "WITH in_force AS MATERIALIZED (SELECT generation FROM active FOR SHARE)
               UPDATE actions a SET lease_until = clock_timestamp() + make_interval(secs => $3)
               FROM in_force
               WHERE a.id = $1 AND a.fence = $2 AND a.state = 'executing' AND a.lease_until > clock_timestamp()
                 AND a.generation = in_force.generation
                 AND (a.expires_at IS NULL OR a.expires_at > clock_timestamp())";
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, &[&action.0, &fence, &lease]).await? == 1)
}

/// The state of an action that could not be claimed.
#[derive(Clone, Debug)]
pub struct Unclaimed {
    /// The action.
    pub action: ActionId,
    /// Its state, as stored.
    pub state: String,
    /// The permit in force, if there is one.
    pub permit: Option<PermitId>,
    /// The database's clock: later than the claim that found nothing.
    pub now: DateTime<Utc>,
}

/// Finds out why actions could not be claimed. Unknown actions are left out.
pub async fn explain(tx: &Transaction, actions: &[ActionId]) -> Result<Vec<Unclaimed>, StoreError> {
    let statement = tx
        .prepare_cached("SELECT id, state, permit, clock_timestamp() FROM actions WHERE id = ANY($1)")
        .await?;
    let ids: Vec<Uuid> = actions.iter().map(|id| id.0).collect();
    let rows = tx.query(&statement, &[&ids]).await?;
    Ok(rows
        .iter()
        .map(|row| Unclaimed {
            action: ActionId(row.get(0)),
            state: row.get(1),
            permit: row.get::<_, Option<Uuid>>(2).map(PermitId),
            now: row.get(3),
        })
        .collect())
}

/// Locks an action whose claim's lease has expired. `None` if it is no longer in that state.
pub async fn interrupted(tx: &Transaction, action: ActionId) -> Result<Option<Claim>, StoreError> {
    let sql = "SELECT a.id, a.fence, a.source, a.event_id, a.tool, p.content, COALESCE(p.content_salt, p.salt), p.salt,
                      a.traceparent, coalesce(a.expires_at <= clock_timestamp(), false), 0::float8
               FROM actions a JOIN payloads p ON p.action = a.id
               WHERE a.id = $1 AND a.state = 'executing' AND a.lease_until < clock_timestamp()
               FOR UPDATE OF a";
    Ok(tx.query_opt(sql, &[&action.0]).await?.as_ref().map(claim_of))
}
