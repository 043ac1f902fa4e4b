-- One row per stratum, inclusion probability and side of the first feedback of the version that a stratum belongs to.
SELECT f.version, COALESCE(a.proposed_at >= f.first_feedback, false) AS after, s.stratum, s.pi,
       count(*) AS executed,
       count(*) FILTER (WHERE u.state = 'judged') AS judged,
       count(*) FILTER (WHERE u.finding = 'wrong') AS wrong,
       count(*) FILTER (WHERE s.selected AND u.state IS DISTINCT FROM 'judged') AS missing
FROM sampling s
JOIN actions a ON a.id = s.action
JOIN UNNEST($3::text[], $4::text[], $5::bigint[], $6::timestamptz[]) AS f (stratum, agent, version, first_feedback)
  ON f.stratum = s.stratum AND f.agent = a.agent
LEFT JOIN audits u ON u.action = s.action AND s.selected
WHERE s.executed AND a.compensates IS NULL AND a.proposed_at >= $1 AND a.proposed_at < $2
GROUP BY f.version, after, s.stratum, s.pi
ORDER BY f.version, after, s.stratum, s.pi
