-- One row per pattern, and one per pattern and rule.
WITH measured AS (
  SELECT a.rule,
         CASE a.verdict WHEN 'require_approval' THEN 'approval' WHEN 'allow' THEN 'audit' ELSE 'deny' END AS pattern,
         a.state,
         a.started_at IS NOT NULL AS executed,
         EXISTS (SELECT FROM decisions d WHERE d.action = a.id) AS reviewed,
         p.state = 'rejected' AS prevented,
         u.id IS NOT NULL AS audited,
         u.state = 'judged' AS judged,
         u.finding = 'wrong' AND a.started_at IS NOT NULL AS wrong,
         o.outcome IS NOT NULL AS doubted,
         extract(epoch FROM a.started_at - a.proposed_at)::float8 AS added,
         extract(epoch FROM p.decided_at - p.opened_at)::float8 AS human
  FROM actions a
  LEFT JOIN approvals p ON p.action = a.id
  LEFT JOIN audits u ON u.action = a.id
  LEFT JOIN outcomes o ON o.action = a.id AND o.seq = 1 AND o.outcome = 'in_doubt'
  WHERE a.proposed_at >= $1 AND a.proposed_at < $2
)
SELECT pattern, rule,
       count(*) AS actions,
       count(*) FILTER (WHERE executed) AS executed,
       count(*) FILTER (WHERE reviewed) AS reviews,
       count(*) FILTER (WHERE audited) AS audits,
       count(*) FILTER (WHERE judged) AS audits_judged,
       count(*) FILTER (WHERE prevented) AS errors_prevented,
       count(*) FILTER (WHERE wrong) AS errors_found,
       count(*) FILTER (WHERE doubted) AS in_doubt,
       count(*) FILTER (WHERE state = 'expired') AS expired,
       count(*) FILTER (WHERE state IN ('pending_approval', 'held', 'authorised', 'executing')) AS open,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY added) AS added,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY human)
         FILTER (WHERE reviewed AND executed) AS human,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY added - COALESCE(human, 0)) AS machine
FROM measured
GROUP BY GROUPING SETS ((pattern), (pattern, rule))
ORDER BY pattern, rule NULLS FIRST
