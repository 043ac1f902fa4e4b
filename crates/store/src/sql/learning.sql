-- One row of counts about the actions accepted in a time range. Remediation tasks are counted as of now, for all actions.
WITH period AS MATERIALIZED (
  SELECT id, state, started_at IS NOT NULL AS executed FROM actions
  WHERE proposed_at >= $1 AND proposed_at < $2
),
-- Corrected: found wrong, and undone by a tool or remedied by people.
corrected AS (
  SELECT count(*) AS corrected
  FROM period a JOIN audits u ON u.action = a.id AND u.finding = 'wrong'
  WHERE a.executed
    AND (EXISTS (SELECT FROM remediations r WHERE r.action = a.id AND r.closed_at IS NOT NULL)
         OR EXISTS (SELECT FROM actions undo WHERE undo.compensates = a.id AND undo.state = 'succeeded'))
),
prevented AS (
  SELECT count(*) FILTER (WHERE a.state = 'rejected') AS rejections,
         count(*) FILTER (WHERE EXISTS (SELECT FROM decisions d WHERE d.action = a.id AND d.decision = 'edit')) AS edits,
         count(*) FILTER (WHERE a.state = 'rejected' AND u.state = 'judged' AND NOT s.executed) AS rejections_audited,
         count(*) FILTER (WHERE a.state = 'rejected' AND u.finding = 'correct' AND NOT s.executed) AS rejections_upheld
  FROM period a
  LEFT JOIN audits u ON u.action = a.id
  LEFT JOIN sampling s ON s.action = a.id
),
-- The first two auditors who were sure. Later ones were asked because these disagreed.
pairs AS (
  SELECT count(*) FILTER (WHERE opinions = ARRAY['wrong', 'wrong']) AS both_wrong,
         count(*) FILTER (WHERE opinions = ARRAY['wrong', 'correct']) AS first_wrong,
         count(*) FILTER (WHERE opinions = ARRAY['correct', 'wrong']) AS second_wrong,
         count(*) FILTER (WHERE opinions = ARRAY['correct', 'correct']) AS both_correct
  FROM (SELECT (array_agg(f.finding ORDER BY f.found_at, f.auditor))[1:2] AS opinions
        FROM findings f JOIN audits u ON u.id = f.audit JOIN period a ON a.id = u.action
        WHERE f.finding <> 'unsure' GROUP BY f.audit) firsts
),
tasks AS (
  SELECT count(*) FILTER (WHERE closed_at IS NULL) AS tasks_open,
         count(*) FILTER (WHERE closed_at IS NULL AND due_at < now()) AS tasks_overdue
  FROM remediations
)
SELECT * FROM corrected, prevented, pairs, tasks
