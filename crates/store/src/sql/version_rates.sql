-- One row per version, half, rule, stratum and inclusion probability. The halves are those of what a version has had
-- executed, in the order of acceptance. They must not depend on what was found: what ends with the first error that was
-- found has one too many.
SELECT version, later, rule, stratum, pi,
       count(*) AS executed,
       count(*) FILTER (WHERE state = 'judged') AS judged,
       count(*) FILTER (WHERE finding = 'wrong') AS wrong,
       count(*) FILTER (WHERE selected AND state IS DISTINCT FROM 'judged') AS missing
FROM (
  SELECT f.version, ntile(2) OVER (PARTITION BY f.version ORDER BY a.proposed_at, a.id) = 2 AS later,
         a.rule, s.stratum, s.pi, s.selected, u.state, u.finding
  FROM sampling s
  JOIN actions a ON a.id = s.action
  JOIN UNNEST($3::text[], $4::text[], $5::bigint[]) AS f (stratum, agent, version)
    ON f.stratum = s.stratum AND f.agent = a.agent
  LEFT JOIN audits u ON u.action = s.action AND s.selected
  WHERE s.executed AND a.compensates IS NULL AND a.proposed_at >= $1 AND a.proposed_at < $2
) drawn
GROUP BY version, later, rule, stratum, pi
ORDER BY version, later, rule, stratum, pi
