-- Whole notes, the first ones first, up to $1 rows of evidence; one note at least.
WITH counted AS (
  SELECT first, sum(rows) OVER (ORDER BY first) AS rows, row_number() OVER (ORDER BY first) AS n
  FROM (SELECT first, rows FROM evidence_pending ORDER BY first LIMIT $1::bigint + 1) oldest),
taken AS (
  DELETE FROM evidence_pending
  WHERE first = ANY (ARRAY (SELECT first FROM counted WHERE rows <= $1 OR n = 1))
  RETURNING evidence)
SELECT t.id, e.event, e.kind, e.body::text, e.occurred_at, e.action, (SELECT max(rows) FROM counted)::bigint AS waiting
FROM (SELECT unnest(evidence) AS id FROM taken) t
LEFT JOIN LATERAL (SELECT * FROM evidence WHERE id = t.id LIMIT 1) e ON true
ORDER BY t.id
