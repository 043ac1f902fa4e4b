-- Slot 0 is that of the shared stratum. A family's other plans take the slots after those that are taken, in a fixed order.
WITH wanted AS (
  SELECT u.*, row_number() OVER (PARTITION BY family ORDER BY is_shared, stratum) AS place
  FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::bool[])
    AS u (stratum, family, rule, plan_state, switching_state, is_shared)
  WHERE NOT EXISTS (SELECT FROM sampling_plans s WHERE s.stratum = u.stratum)
),
placed AS (
  SELECT w.*, CASE WHEN is_shared THEN 0
                   ELSE place + (SELECT count(*) FROM sampling_plans s WHERE s.family = w.family AND s.slot > 0) END AS slot
  FROM wanted w
)
INSERT INTO sampling_plans (stratum, family, slot, rule, plan_state, switching_state, since)
SELECT stratum, family, slot, rule, plan_state, switching_state, $7 FROM placed
WHERE slot <= $8 ORDER BY family, slot
ON CONFLICT DO NOTHING RETURNING stratum, plan_state
