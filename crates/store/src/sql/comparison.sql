-- One row per group, period, measure, inclusion probability and block of time. A group is what an action's content holds at
-- the path $10, or what its agent is called in $11 and $12, or its agent, tool and stratum. Groups of fewer than $5 actions in
-- a period, and those beyond the $7 largest, have no name; `known` tells them from actions whose group is not known. The later
-- period begins at $9. Compensations are left out: no agent proposes them.
WITH named AS MATERIALIZED (
  SELECT a.id, a.proposed_at >= $9::timestamptz AS later,
         -- Blocks are equally long, so that how many findings one has does not depend on what they are.
         least($3::int, 1 + floor($3::int * CASE WHEN a.proposed_at < $9::timestamptz
           THEN extract(epoch FROM a.proposed_at - $1::timestamptz) / extract(epoch FROM $9::timestamptz - $1::timestamptz)
           ELSE extract(epoch FROM a.proposed_at - $9::timestamptz) / extract(epoch FROM $2::timestamptz - $9::timestamptz)
         END)::int) AS block,
         CASE WHEN $10::text[] IS NOT NULL THEN
                CASE WHEN json_typeof(c.value) IN ('string', 'number', 'boolean')
                      AND length(c.value #>> '{}') BETWEEN 1 AND 100 THEN ARRAY[c.value #>> '{}'] END
              WHEN $11::text[] IS NOT NULL THEN CASE WHEN d.label IS NOT NULL THEN ARRAY[d.label] END
              ELSE ARRAY[a.agent, a.tool, a.stratum] END AS label
  FROM actions a
  LEFT JOIN LATERAL (
    SELECT convert_from(p.content, 'UTF8')::json #> $10::text[] AS value FROM payloads p
    WHERE p.action = a.id AND $10::text[] IS NOT NULL AND length(p.content) > 0
      -- PostgreSQL reads no text with a NUL in it: \u0000.
      AND position('\x5c7530303030'::bytea IN p.content) = 0
  ) c ON true
  LEFT JOIN UNNEST($11::text[], $12::text[]) AS d (agent, label) ON d.agent = a.agent
  WHERE a.proposed_at >= $1::timestamptz AND a.proposed_at < $2::timestamptz AND a.compensates IS NULL
),
listed AS (
  SELECT label FROM (SELECT label, later, count(*) AS actions FROM named WHERE label IS NOT NULL GROUP BY label, later) periods
  GROUP BY label HAVING min(actions) >= $5::bigint
  ORDER BY label = $6::text[] DESC NULLS LAST, sum(actions) DESC, label LIMIT $7
)
SELECT n.label IS NOT NULL AS known, l.label, n.later, m.measure, m.pi, n.block,
       count(*) AS executed,
       count(*) FILTER (WHERE m.judged) AS judged,
       count(*) FILTER (WHERE m.judged AND m.positive) AS positive,
       count(*) FILTER (WHERE m.missing) AS missing
FROM named n
LEFT JOIN listed l ON l.label = n.label
JOIN actions a ON a.id = n.id
LEFT JOIN approvals p ON p.action = a.id
LEFT JOIN sampling s ON s.action = a.id
LEFT JOIN audits u ON u.action = s.action AND s.selected
CROSS JOIN LATERAL (VALUES
  ('actions', 1::float8, true, true, false, false),
  ('wrong', coalesce(s.pi, 0), a.started_at IS NOT NULL AND a.ended_at IS NOT NULL,
   u.state = 'judged', u.finding = 'wrong', s.selected AND u.state IS DISTINCT FROM 'judged'),
  ('rejected', 1, p.state IN ('approved', 'rejected'), true, p.state = 'rejected', false),
  -- A request counts once its time is over, or else those that were answered soon would count first.
  ('slow', 1, p.opened_at + make_interval(secs => $4::float8) <= now()
              AND NOT (p.state = 'closed' AND p.decided_at <= p.opened_at + make_interval(secs => $4::float8)),
   true, NOT (p.state IN ('approved', 'rejected') AND p.decided_at <= p.opened_at + make_interval(secs => $4::float8)), false),
  ('audited', 1, s.executed, true, s.selected, false)
) AS m (measure, pi, counts, judged, positive, missing)
WHERE m.counts AND (l.label IS NOT NULL OR m.measure = 'actions')
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY 1, 2, 3, 4, 5, 6
LIMIT $8
