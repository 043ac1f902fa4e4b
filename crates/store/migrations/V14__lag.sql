-- What is known of what an agent has executed at once under a rule, in all strata that no operator had pinned. A window begins
-- where the family was last sent back to approval: with the generation `since`. Counted in the transactions that store draws and
-- findings, under the lock on the family, so that a cap is noticed at once, however much was executed.
CREATE TABLE plan_cells (
  family   text NOT NULL REFERENCES plan_families,
  since    bigint NOT NULL,
  -- Rounded down to three digits, which bounds the number of rows.
  pi       double precision NOT NULL CHECK (pi BETWEEN 0 AND 1),
  executed bigint NOT NULL,
  judged   bigint NOT NULL,
  wrong    bigint NOT NULL,
  missing  bigint NOT NULL,
  PRIMARY KEY (family, since, pi),
  CHECK (wrong BETWEEN 0 AND judged AND missing >= 0 AND judged + missing <= executed)
);
-- The audits among them: how many actions of the window were drawn up to and with it, and whether it is settled.
CREATE TABLE plan_audits (
  action   uuid PRIMARY KEY REFERENCES audits (action),
  family   text NOT NULL REFERENCES plan_families,
  since    bigint NOT NULL,
  pi       double precision NOT NULL,
  position bigint NOT NULL,
  drawn_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  settled  boolean NOT NULL DEFAULT false
);
CREATE INDEX plan_audits_unsettled ON plan_audits (family, since, position) WHERE NOT settled;

WITH counted AS (
  SELECT f.family, f.since, s.action, s.pi, s.selected, s.sampled_at, u.state, u.finding,
         row_number() OVER (PARTITION BY f.family ORDER BY s.sampled_at, s.action) AS position
  FROM plan_families f JOIN sampling_plans p USING (family) JOIN sampling s USING (stratum) JOIN actions a ON a.id = s.action
  LEFT JOIN audits u ON u.action = s.action AND s.selected
  WHERE s.executed AND a.verdict = 'allow' AND a.generation >= f.since AND p.pinned_by IS NULL
),
cells AS (
  INSERT INTO plan_cells
  SELECT family, since, pi, count(*), count(*) FILTER (WHERE state = 'judged'), count(*) FILTER (WHERE finding = 'wrong'),
         count(*) FILTER (WHERE selected AND state IS DISTINCT FROM 'judged')
  FROM counted GROUP BY family, since, pi
)
INSERT INTO plan_audits SELECT action, family, since, pi, position, sampled_at, state = 'judged' FROM counted WHERE selected;
