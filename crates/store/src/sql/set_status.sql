UPDATE actions a
SET state = u.state, verdict = u.verdict, rule = u.rule, generation = u.generation,
    policy_version = u.policy_version, audit_rate = u.audit_rate, audit_group = u.audit_group, stratum = u.stratum, plan_state = u.plan_state,
    audit_score = u.audit_score,
    approved = u.approved, approvers = string_to_array(u.approvers, ','), permit = u.permit,
    decided_at = CASE WHEN u.decided THEN clock_timestamp() ELSE a.decided_at END,
    ended_at = CASE WHEN u.ended THEN clock_timestamp() END,
    state_at = clock_timestamp()
FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::float8[], $8::text[],
            $9::bool[], $10::text[], $11::uuid[], $12::bool[], $13::bool[], $14::text[], $15::text[], $16::float8[])
  AS u (id, state, verdict, rule, generation, policy_version, audit_rate, audit_group, approved, approvers,
        permit, decided, ended, stratum, plan_state, audit_score)
CROSS JOIN LATERAL (SELECT ctid FROM actions WHERE id = u.id LIMIT 1) here
WHERE a.ctid = here.ctid
