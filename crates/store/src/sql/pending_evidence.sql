-- Whole notes, oldest first, up to $1 rows of evidence; at least one note. Without the notes in $2.
WITH counted AS (
  SELECT first, evidence, sum(rows) OVER (ORDER BY first) AS rows, row_number() OVER (ORDER BY first) AS n
  FROM (SELECT first, evidence, rows FROM evidence_pending
        WHERE first <> ALL ($2::bigint[]) ORDER BY first LIMIT $1::bigint + 1) oldest)
SELECT t.id, e.event, e.kind, e.body::text, e.occurred_at, e.action, t.first,
       (SELECT max(rows) FROM counted)::bigint AS waiting, (SELECT clock_timestamp()) AS now
FROM (SELECT first, unnest(evidence) AS id FROM counted WHERE rows <= $1 OR n = 1) t
LEFT JOIN LATERAL (SELECT * FROM evidence WHERE id = t.id LIMIT 1) e ON true
ORDER BY t.id
