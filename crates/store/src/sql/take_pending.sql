WITH taken AS (
  DELETE FROM evidence_pending
  WHERE evidence = ANY (ARRAY (SELECT evidence FROM evidence_pending ORDER BY evidence LIMIT $1))
  RETURNING evidence)
SELECT t.evidence, e.event, e.kind, e.body::text, e.occurred_at, e.action
FROM taken t
LEFT JOIN LATERAL (SELECT * FROM evidence WHERE id = t.evidence LIMIT 1) e ON true
ORDER BY t.evidence
