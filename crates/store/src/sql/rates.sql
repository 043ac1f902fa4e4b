-- One row per rule, stratum and inclusion probability of executed actions. Look-back audits were not drawn, and are left out. An
-- action that has no draw yet may be wrong like one that is never drawn: 0.
SELECT a.rule, a.stratum, coalesce(s.pi, 0) AS pi,
       count(*) AS executed,
       count(*) FILTER (WHERE u.state = 'judged') AS judged,
       count(*) FILTER (WHERE u.finding = 'wrong') AS wrong,
       count(*) FILTER (WHERE s.selected AND u.state IS DISTINCT FROM 'judged') AS missing
FROM actions a
LEFT JOIN sampling s ON s.action = a.id
LEFT JOIN audits u ON u.action = s.action AND s.selected
WHERE a.started_at IS NOT NULL AND a.ended_at IS NOT NULL AND a.proposed_at >= $1 AND a.proposed_at < $2
GROUP BY a.rule, a.stratum, 3
ORDER BY a.rule, a.stratum, 3
