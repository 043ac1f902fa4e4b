-- One row per rule, inclusion probability and score of the executed actions of rules that scored any of them. What was executed without a
-- score is as if 0 had been predicted, and a failed one is stored as 1/2. The rest is as in rates.sql.
SELECT a.rule, coalesce(s.pi, 0) AS pi, coalesce(a.audit_score, 0) AS score,
       count(*) AS executed,
       count(*) FILTER (WHERE u.state = 'judged') AS judged,
       count(*) FILTER (WHERE u.finding = 'wrong') AS wrong,
       count(*) FILTER (WHERE s.selected AND u.state IS DISTINCT FROM 'judged') AS missing
FROM actions a
LEFT JOIN sampling s ON s.action = a.id
LEFT JOIN audits u ON u.action = s.action AND s.selected
WHERE a.started_at IS NOT NULL AND a.ended_at IS NOT NULL AND a.proposed_at >= $1 AND a.proposed_at < $2
  AND a.rule IN (SELECT rule FROM actions WHERE audit_score IS NOT NULL AND proposed_at >= $1 AND proposed_at < $2)
GROUP BY a.rule, 2, 3
ORDER BY a.rule, 2, 3
