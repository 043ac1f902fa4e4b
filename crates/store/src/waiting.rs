//! Proposals of agents that are over their quotas, until their turn comes; and what each agent has under way.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use countersign_core::quota::Usage;
use tokio_postgres::Row;

use crate::{Pipeline, StoreError, Transaction, outcomes::storable, transaction::parameters};

/// A proposal whose turn has come, but which has not been admitted for so long, is called again.
const CALLED_FOR: &str = "interval '30 seconds'";

/// What is admitted is kept for as long as the command that admitted it may be delivered again.
const KEPT_FOR: &str = "interval '10 minutes'";

/// The most whose turn comes at once, of one agent and of those that will not be executed.
const TURNS_MAX: i64 = 256;

/// A proposal that is to wait.
#[derive(Clone, Debug)]
pub struct NewWaiting<'a> {
    /// The agent that waits.
    pub agent: &'a str,
    /// The id that the agent gave the action; empty where the message has none.
    pub event_id: &'a str,
    /// The message, byte for byte.
    pub body: &'a [u8],
    /// The AMQP user that the broker validated.
    pub author: &'a str,
    /// The exchange that it was published to.
    pub exchange: &'a str,
    /// The routing key that it was published with.
    pub routing_key: &'a str,
    /// The action's own deadline.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A proposal whose turn has come.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The agent that waits.
    pub agent: String,
    /// The id that the agent gave the action; empty where the message has none.
    pub event_id: String,
    /// Whether it has been admitted before. Then its body is gone: the action has it.
    pub admitted: bool,
    /// The message, byte for byte.
    pub body: Vec<u8>,
    /// The AMQP user that the broker validated.
    pub author: String,
    /// The exchange that it was published to.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// Whether its agent has withdrawn it meanwhile.
    pub withdrawn: bool,
}

/// What agents have under way, by their ids.
pub async fn usage(tx: &Transaction, agents: &[&str]) -> Result<BTreeMap<String, Usage>, StoreError> {
    let sql = format!(
        "SELECT u.agent, open.in_flight + turn.called, open.requests, turn.waiting, r.used_until
         FROM UNNEST($1::text[]) AS u (agent)
         CROSS JOIN LATERAL (
           SELECT count(*) FILTER (WHERE state <> 'pending_approval') AS in_flight,
                  count(*) FILTER (WHERE state = 'pending_approval') AS requests
           FROM actions WHERE agent = u.agent AND ended_at IS NULL) open
         CROSS JOIN LATERAL (
           SELECT count(*) AS waiting, count(*) FILTER (WHERE called_at > now() - {CALLED_FOR}) AS called
           FROM waiting WHERE agent = u.agent AND admitted_at IS NULL) turn
         LEFT JOIN agent_rates r ON r.agent = u.agent"
    );
    let rows = tx.query(&tx.prepare_cached(&sql).await?, &[&agents]).await?;
    let number = |row: &Row, column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let usage = |row: &Row| Usage {
        in_flight: number(row, 1),
        open_requests: number(row, 2),
        waiting: number(row, 3),
        used_until: row.get(4),
    };
    Ok(rows.iter().map(|row| (row.get(0), usage(row))).collect())
}

/// Keeps other transactions that lock these agents' quotas waiting until this one ends. Comes before the locks of limits.
pub async fn lock_quotas(tx: &Transaction, agents: &[&str]) -> Result<(), StoreError> {
    // A class of its own; in an order, so that two transactions do not wait for each other.
    let sql = "SELECT pg_advisory_xact_lock(1, hash)
               FROM (SELECT DISTINCT hashtext(agent) AS hash FROM UNNEST($1::text[]) AS u (agent) ORDER BY 1) u";
    tx.query(&tx.prepare_cached(sql).await?, &[&agents]).await?;
    Ok(())
}

/// Adds to what agents have used of their rates, in seconds.
pub async fn use_rates<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    seconds: &'a BTreeMap<String, f64>,
) -> Result<(), StoreError> {
    if seconds.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO agent_rates (agent, used_until)
               SELECT agent, now() + make_interval(secs => seconds)
               FROM UNNEST($1::text[], $2::float8[]) AS u (agent, seconds) ORDER BY agent
               ON CONFLICT (agent) DO UPDATE
               SET used_until = greatest(agent_rates.used_until, now()) + (excluded.used_until - now())";
    let (agents, seconds): (Vec<&str>, Vec<f64>) =
        seconds.iter().map(|(agent, seconds)| (agent.as_str(), *seconds)).unzip();
    writes.add(tx, sql, parameters![agents, seconds]).await
}

/// Stores proposals that wait. One that waits already stays where it is.
pub async fn insert(tx: &Transaction, rows: &[NewWaiting<'_>]) -> Result<(), StoreError> {
    let sql = "INSERT INTO waiting (agent, event_id, body, author, exchange, routing_key, expires_at)
               SELECT * FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[],
                                    $7::timestamptz[])
               ON CONFLICT DO NOTHING";
    let agents: Vec<&str> = rows.iter().map(|row| row.agent).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row.event_id).collect();
    let bodies: Vec<&[u8]> = rows.iter().map(|row| row.body).collect();
    let authors: Vec<&str> = rows.iter().map(|row| row.author).collect();
    let exchanges: Vec<String> = rows.iter().map(|row| storable(row.exchange)).collect();
    let keys: Vec<String> = rows.iter().map(|row| storable(row.routing_key)).collect();
    let expires: Vec<Option<DateTime<Utc>>> = rows.iter().map(|row| row.expires_at).collect();
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&agents, &ids, &bodies, &authors, &exchanges, &keys, &expires]).await?;
    Ok(())
}

/// Marks what waits under these references of an agent's as withdrawn.
pub async fn withdraw(tx: &Transaction, agents: &[&str], event_ids: &[&str]) -> Result<(), StoreError> {
    let sql = "UPDATE waiting w SET withdrawn = true
               FROM UNNEST($1::text[], $2::text[]) AS u (agent, event_id)
               WHERE w.agent = u.agent AND w.event_id = u.event_id AND w.admitted_at IS NULL";
    tx.execute(&tx.prepare_cached(sql).await?, &[&agents, &event_ids]).await?;
    Ok(())
}

/// The agents of which something waits, but for a turn that has come.
pub async fn agents(tx: &Transaction) -> Result<Vec<String>, StoreError> {
    // Jumps from agent to agent in the index, however much of each waits.
    let sql = "WITH RECURSIVE next AS (
                 (SELECT agent FROM waiting WHERE admitted_at IS NULL ORDER BY agent LIMIT 1)
                 UNION ALL
                 SELECT (SELECT agent FROM waiting WHERE admitted_at IS NULL AND agent > next.agent
                         ORDER BY agent LIMIT 1)
                 FROM next WHERE next.agent IS NOT NULL)
               SELECT agent FROM next WHERE agent IS NOT NULL";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Calls the oldest proposals of each agent, as many as it has room for, and those that will not be executed: withdrawn
/// or expired. Returns their ids.
pub async fn call(tx: &Transaction, rooms: &BTreeMap<String, u64>) -> Result<Vec<i64>, StoreError> {
    let uncalled = format!("admitted_at IS NULL AND (called_at IS NULL OR called_at < now() - {CALLED_FOR})");
    let sql = format!(
        "WITH turn AS (
           SELECT next.id FROM UNNEST($1::text[], $2::bigint[]) AS u (agent, room)
           CROSS JOIN LATERAL (SELECT id FROM waiting WHERE agent = u.agent AND {uncalled}
                               ORDER BY id LIMIT least(u.room, $3)) next
           UNION
           (SELECT id FROM waiting WHERE expires_at <= now() AND {uncalled} ORDER BY expires_at LIMIT $3)
           UNION
           (SELECT id FROM waiting WHERE agent = ANY ($1) AND withdrawn AND {uncalled} LIMIT $3))
         UPDATE waiting w SET called_at = clock_timestamp() FROM turn WHERE w.id = turn.id AND {uncalled}
         RETURNING w.id"
    );
    let agents: Vec<&str> = rooms.keys().map(String::as_str).collect();
    let room: Vec<i64> = rooms.values().map(|room| i64::try_from(*room).unwrap_or(i64::MAX)).collect();
    let rows = tx.query(&tx.prepare_cached(&sql).await?, &[&agents, &room, &TURNS_MAX]).await?;
    let mut ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Locks proposals that have been called, in the order in which they came. Others are left out.
pub async fn lock(tx: &Transaction, ids: &[i64]) -> Result<Vec<Waiting>, StoreError> {
    let sql = "SELECT agent, event_id, admitted_at IS NOT NULL, body, author, exchange, routing_key, withdrawn FROM waiting
               WHERE id = ANY ($1) AND called_at IS NOT NULL ORDER BY id FOR UPDATE";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&ids]).await?;
    let waiting = |row: &Row| Waiting {
        agent: row.get(0),
        event_id: row.get(1),
        admitted: row.get(2),
        body: row.get(3),
        author: row.get(4),
        exchange: row.get(5),
        routing_key: row.get(6),
        withdrawn: row.get(7),
    };
    Ok(rows.iter().map(waiting).collect())
}

/// Records that locked proposals are admitted.
pub async fn admitted(tx: &Transaction, ids: &[i64]) -> Result<(), StoreError> {
    let sql = "UPDATE waiting SET admitted_at = clock_timestamp(), body = ''
               WHERE id = ANY ($1) AND admitted_at IS NULL";
    tx.execute(&tx.prepare_cached(sql).await?, &[&ids]).await?;
    Ok(())
}

/// Forgets what was admitted a while ago.
pub async fn forget(tx: &Transaction) -> Result<(), StoreError> {
    let sql = format!(
        "DELETE FROM waiting WHERE id IN (SELECT id FROM waiting WHERE admitted_at < now() - {KEPT_FOR} LIMIT 10000)"
    );
    tx.execute(&tx.prepare_cached(&sql).await?, &[]).await?;
    Ok(())
}

/// The agent whose proposal with this id waits, and since when; `None` if none does.
pub async fn find(tx: &Transaction, event_id: &str) -> Result<Option<(String, DateTime<Utc>)>, StoreError> {
    let sql = "SELECT agent, arrived_at FROM waiting
               WHERE event_id = $1 AND admitted_at IS NULL ORDER BY id LIMIT 1";
    let row = tx.query_opt(sql, &[&event_id]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}
