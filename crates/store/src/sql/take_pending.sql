WITH taken AS (
  DELETE FROM evidence_pending
  WHERE evidence IN (SELECT evidence FROM evidence_pending ORDER BY evidence LIMIT $1)
  RETURNING evidence)
SELECT t.evidence, e.event, e.kind, e.body::text, e.occurred_at, e.action,
       a.source, a.event_id, a.agent, a.tool, a.traceparent, before.event, a.compensates
FROM taken t
LEFT JOIN evidence e ON e.id = t.evidence
LEFT JOIN actions a ON a.id = e.action
LEFT JOIN LATERAL (
  SELECT event FROM ledger l WHERE l.action = e.action ORDER BY l.index DESC LIMIT 1) before ON true
ORDER BY t.evidence
