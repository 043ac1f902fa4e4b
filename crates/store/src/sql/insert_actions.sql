INSERT INTO actions (id, source, event_id, agent, tool, state, verdict, rule, generation, policy_version,
                     audit_rate, audit_group, permit, expires_at, traceparent, supersedes, compensates, stratum, plan_state, audit_score, ended_at)
SELECT id, source, event_id, agent, tool, state, verdict, rule, generation, policy_version,
       audit_rate, audit_group, permit, expires_at, traceparent, supersedes, compensates, stratum, plan_state, audit_score,
       CASE WHEN state IN ('denied', 'expired', 'cancelled') THEN now() END
FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::bigint[], $10::text[], $11::float8[], $12::text[], $13::uuid[], $14::timestamptz[], $15::text[],
            $16::uuid[], $17::uuid[], $18::text[], $19::text[], $20::float8[])
  AS u (id, source, event_id, agent, tool, state, verdict, rule, generation, policy_version,
        audit_rate, audit_group, permit, expires_at, traceparent, supersedes, compensates, stratum, plan_state, audit_score)
ON CONFLICT (source, event_id) DO NOTHING
RETURNING id
