-- The strata in which agents acted in a time range, with the content of one action of each, which has the version that
-- the name may truncate, and its first feedback, whenever that was. Compensations are left out: no agent proposes them.
WITH feedback AS (
  SELECT a.stratum, a.agent, min(l.at) AS first_feedback, min(a.id::text)::uuid AS one
  FROM (SELECT action, judged_at AS at FROM audits WHERE finding = 'wrong'
        UNION ALL SELECT action, decided_at FROM decisions WHERE decision = 'edit'
        UNION ALL SELECT action, decided_at FROM approvals WHERE state = 'rejected') l
  JOIN actions a ON a.id = l.action
  WHERE a.compensates IS NULL
  GROUP BY a.stratum, a.agent
),
executed AS (
  SELECT s.stratum, a.agent, min(a.id::text)::uuid AS one
  FROM sampling s JOIN actions a ON a.id = s.action
  WHERE s.executed AND a.compensates IS NULL AND a.proposed_at >= $1 AND a.proposed_at < $2
  GROUP BY s.stratum, a.agent
)
SELECT stratum, agent, first_feedback, p.content
FROM executed e FULL JOIN feedback l USING (stratum, agent)
LEFT JOIN payloads p ON p.action = COALESCE(e.one, l.one)
ORDER BY agent, stratum
