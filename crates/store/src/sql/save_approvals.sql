INSERT INTO approvals (id, action, rule, rule_text, spec, state, opened_at, expires_at, published_at, escalated, decided_at)
SELECT id, action, rule, rule_text, spec, state, opened_at, expires_at, clock_timestamp(), string_to_array(escalated, ','),
       CASE WHEN state <> 'open' THEN clock_timestamp() END
FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::timestamptz[], $8::timestamptz[],
            $9::text[])
  AS u (id, action, rule, rule_text, spec, state, opened_at, expires_at, escalated)
ON CONFLICT (action) DO UPDATE SET
  id = EXCLUDED.id, rule = EXCLUDED.rule, rule_text = EXCLUDED.rule_text, spec = EXCLUDED.spec, state = EXCLUDED.state,
  opened_at = EXCLUDED.opened_at, expires_at = EXCLUDED.expires_at, published_at = EXCLUDED.published_at,
  escalated = EXCLUDED.escalated, decided_at = EXCLUDED.decided_at,
  replaced = CASE WHEN approvals.id = EXCLUDED.id THEN approvals.replaced ELSE approvals.replaced || approvals.id END
