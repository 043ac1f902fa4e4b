-- One row per rule, stratum and inclusion probability of executed actions. Look-back audits were not drawn, and are left out.
SELECT a.rule, s.stratum, s.pi,
       count(*) AS executed,
       count(*) FILTER (WHERE u.state = 'judged') AS judged,
       count(*) FILTER (WHERE u.finding = 'wrong') AS wrong,
       count(*) FILTER (WHERE s.selected AND u.state IS DISTINCT FROM 'judged') AS missing
FROM sampling s
JOIN actions a ON a.id = s.action
LEFT JOIN audits u ON u.action = s.action AND s.selected
WHERE s.executed AND a.proposed_at >= $1 AND a.proposed_at < $2
GROUP BY a.rule, s.stratum, s.pi
ORDER BY a.rule, s.stratum, s.pi
