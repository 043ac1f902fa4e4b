-- One row per action and reviewer: the last decision, what became of it, and what an audit that was drawn has found. What was
-- executed counts for those who approved exactly that; a rejection for those who rejected what ended as rejected.
WITH own AS (
  SELECT d.*, row_number() OVER latest_first AS place,
         min(d.decided_at) OVER (PARTITION BY d.action, d.reviewer, d.approval) AS first_at
  FROM decisions d JOIN actions a ON a.id = d.action
  WHERE a.proposed_at >= $1 AND a.proposed_at < $2
  WINDOW latest_first AS (PARTITION BY d.action, d.reviewer ORDER BY d.signed_at DESC,
    array_position(ARRAY['approve', 'edit', 'respond', 'reject'], d.decision) DESC, d.decided_at DESC)
)
SELECT o.reviewer, a.rule, a.stratum, o.decision,
       EXISTS (SELECT FROM decisions e WHERE e.action = o.action AND e.reviewer = o.reviewer AND e.digest = o.digest
                                         AND e.decision <> o.decision) AS changed,
       extract(epoch FROM o.first_at - p.opened_at)::float8 AS seconds,
       (o.decision = 'approve' AND a.ended_at IS NOT NULL AND a.started_at IS NOT NULL AND y.digest = o.digest)
         OR (o.decision = 'reject' AND a.state = 'rejected') AS stands,
       coalesce(s.pi, 0) AS pi, coalesce(s.selected, false) AS selected, u.finding
FROM own o
JOIN actions a ON a.id = o.action
JOIN payloads y ON y.action = o.action
LEFT JOIN approvals p ON p.id = o.approval
LEFT JOIN sampling s ON s.action = o.action
LEFT JOIN audits u ON u.action = s.action AND s.selected AND u.state = 'judged'
WHERE o.place = 1
ORDER BY a.rule, a.stratum, o.reviewer, o.action
LIMIT $3
