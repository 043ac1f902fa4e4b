-- A page of the actions that a human has decided or judged, in order of their ids, with the reasons.
-- Compensations are left out: Countersign proposes them, so no agent learns from them.
WITH page AS (
  SELECT id FROM (
    -- Each half is as long as a page, so that the page misses none. Both sides of a join start after the last
    -- page: the planner draws that conclusion from equations alone.
    (SELECT a.id FROM audits u JOIN actions a ON a.id = u.action
     WHERE u.state = 'judged' AND u.action > $3 AND a.id > $3
       AND a.proposed_at >= $1 AND a.proposed_at < $2 AND a.compensates IS NULL
     ORDER BY u.action LIMIT $4)
    UNION
    (SELECT DISTINCT ON (d.action) a.id FROM decisions d JOIN actions a ON a.id = d.action
     WHERE d.action > $3 AND a.id > $3
       AND a.proposed_at >= $1 AND a.proposed_at < $2 AND a.compensates IS NULL
     ORDER BY d.action LIMIT $4)
  ) reviewed
  ORDER BY id LIMIT $4
)
SELECT a.id, a.source, a.event_id, a.agent, a.tool, a.state, a.rule, a.policy_version, a.approved,
       a.started_at IS NOT NULL AS executed, p.body, p.content, p.edited,
       o.error_code, o.error_message,
       e.reason_code AS edit_code, e.reason AS edit_reason, e.reviewer IS NOT NULL AS was_edited,
       y.reason_code AS approval_code, y.reason AS approval_reason,
       u.finding, u.severity, f.reason_code AS finding_code, f.reason AS finding_reason, c.correction,
       CASE WHEN s.selected THEN s.pi END AS pi
FROM page JOIN actions a USING (id)
LEFT JOIN payloads p ON p.action = a.id
LEFT JOIN outcomes o ON o.action = a.id AND o.seq = 1 AND o.outcome = 'rejected'
LEFT JOIN LATERAL (SELECT reviewer, reason_code, reason FROM decisions
                   WHERE action = a.id AND decision = 'edit'
                   ORDER BY decided_at DESC, reviewer DESC LIMIT 1) e ON true
LEFT JOIN LATERAL (SELECT reason_code, reason FROM decisions d
                   WHERE d.action = a.id AND d.decision = 'approve' AND d.digest = p.digest
                     AND NOT EXISTS (SELECT FROM decisions later
                       WHERE later.action = d.action AND later.digest = d.digest AND later.reviewer = d.reviewer
                         AND later.decision <> 'approve' AND later.signed_at >= d.signed_at)
                   ORDER BY d.decided_at DESC, d.reviewer DESC LIMIT 1) y ON true
LEFT JOIN audits u ON u.action = a.id AND u.state = 'judged'
LEFT JOIN LATERAL (SELECT reason_code, reason FROM findings
                   WHERE audit = u.id AND finding = u.finding
                   ORDER BY found_at DESC, auditor DESC LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT correction FROM findings
                   WHERE audit = u.id AND u.finding = 'wrong' AND finding = 'wrong' AND correction IS NOT NULL
                   ORDER BY found_at DESC, auditor DESC LIMIT 1) c ON true
LEFT JOIN sampling s ON s.action = a.id
ORDER BY a.id
