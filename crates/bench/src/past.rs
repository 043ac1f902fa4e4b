//! Fills the database with past actions and their rows.

use countersign_testkit::system::System;

/// Actions that one transaction writes.
const STEP: u64 = 20_000;

/// Actions executed yesterday, sampled in an epoch of that time, with four rows of evidence each.
const WRITE: &str = "
WITH times AS (
  SELECT n, date_trunc('hour', now()) - interval '1 day' + n * interval '5 milliseconds' AS at
  FROM generate_series($1::bigint, $2::bigint) n),
-- In the order of their times, as ids are made here: version 7 of RFC 9562.
ids AS (
  SELECT n, at, (stamp || 'a' || substr(gen_random_uuid()::text, 20))::uuid AS id,
         (stamp || 'b' || substr(gen_random_uuid()::text, 20))::uuid AS permit
  FROM times, LATERAL (SELECT lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '700' AS stamp) s),
acted AS (
  INSERT INTO actions (id, source, event_id, agent, tool, state, verdict, rule, generation, policy_version, audit_rate,
                       audit_group, permit, fence, proposed_at, state_at, started_at, ended_at, stratum)
  SELECT id, '/agents/one', 'past-' || n, 'one', 'direct', 'succeeded', 'allow', 'direct', 1, 'bench', 0.1, 'auditors',
         permit, 1, at, at, at, at, 'direct/direct/one/1.4.2/' FROM ids),
kept AS (
  INSERT INTO payloads (action, body, content, salt, body_digest, digest)
  SELECT id, convert_to(repeat('x', 600), 'UTF8'), convert_to(repeat('x', 450), 'UTF8'),
         decode(repeat('00', 16), 'hex'), sha256(id::text::bytea), sha256(id::text::bytea) FROM ids),
permitted AS (
  INSERT INTO permits (id, action, generation, bytes, issued_at)
  SELECT permit, id, 1, convert_to(repeat('x', 300), 'UTF8'), at FROM ids),
ended AS (
  INSERT INTO outcomes (action, seq, event, outcome, result, at)
  SELECT id, 1, gen_random_uuid(), 'succeeded', convert_to('\"done\"', 'UTF8'), at FROM ids),
drawn AS (
  INSERT INTO sampling (action, epoch, stratum, pi, r, selected, sampled_at, wanted, executed)
  SELECT id, 1, 'direct/direct/one/1.4.2/', 0.1, 1, false, at, 0.1, true FROM ids)
INSERT INTO evidence (event, action, kind, body, occurred_at)
SELECT gen_random_uuid(), id, kind, json_build_object('state', 'succeeded', 'filler', repeat('x', 300)), at
FROM ids, UNNEST(ARRAY['action.evaluated', 'action.claimed', 'action.completed', 'action.sampled']) kind";

/// Writes past actions `had + 1` to `count`, then vacuums and analyses the database.
pub(super) async fn write(system: &System, had: u64, count: u64) -> anyhow::Result<()> {
    let store = system.store()?;
    let mut from = had + 1;
    while from <= count {
        let to = count.min(from + STEP - 1);
        let tx = store.transaction().await?;
        tx.execute("SET LOCAL synchronous_commit = off", &[]).await?;
        tx.execute(WRITE, &[&i64::try_from(from)?, &i64::try_from(to)?]).await?;
        tx.commit().await?;
        if to.is_multiple_of(10 * STEP) {
            eprintln!("  {to} of {count} past actions");
        }
        from = to + 1;
    }
    let client = store.client().await?;
    // A database with such a past would have vacuumed long ago; it must not do so during the measurement.
    // One at a time, as statements sent together form one transaction, in which VACUUM is not allowed.
    for statement in ["SET statement_timeout = 0", "VACUUM (ANALYZE)", "RESET statement_timeout"] {
        client.batch_execute(statement).await?;
    }
    Ok(())
}
