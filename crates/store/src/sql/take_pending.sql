WITH taken AS (
  DELETE FROM evidence_pending
  WHERE evidence = ANY (ARRAY (SELECT evidence FROM evidence_pending ORDER BY evidence LIMIT $1))
  RETURNING evidence)
SELECT t.evidence, e.event, e.kind, e.body::text, e.occurred_at, e.action,
       a.source, a.event_id, a.agent, a.tool, a.traceparent, before.event, a.compensates
FROM taken t
LEFT JOIN LATERAL (SELECT * FROM evidence WHERE id = t.evidence LIMIT 1) e ON true
LEFT JOIN LATERAL (SELECT * FROM actions WHERE id = e.action LIMIT 1) a ON true
LEFT JOIN LATERAL (
  SELECT event FROM ledger l WHERE l.action = e.action ORDER BY l.index DESC LIMIT 1) before ON true
ORDER BY t.evidence
