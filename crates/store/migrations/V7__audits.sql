-- Audits in depth: strata and switching, findings of more than one auditor, compensation, remediation.

-- The stratum, and the state of its sampling plan at the evaluation; null where the rule has no plan.
ALTER TABLE actions ADD COLUMN stratum text NOT NULL DEFAULT '';
ALTER TABLE actions ADD COLUMN plan_state text CHECK (plan_state IN ('normal', 'tightened', 'pre_approval', 'discontinued'));
-- The action that this one undoes. Once: a second attempt would have the same source and id.
ALTER TABLE actions ADD COLUMN compensates uuid REFERENCES actions;
CREATE UNIQUE INDEX actions_compensates ON actions (compensates) WHERE compensates IS NOT NULL;

-- π before capacity, and the cap on the reason that forces π = 1.
ALTER TABLE sampling ADD COLUMN wanted double precision NOT NULL DEFAULT 0 CHECK (wanted BETWEEN 0 AND 1);
ALTER TABLE sampling ADD COLUMN cap bigint;
-- Rejected and denied actions are drawn at a rate of their own, and are not counted as executed.
ALTER TABLE sampling ADD COLUMN executed boolean NOT NULL DEFAULT true;
CREATE INDEX sampling_epoch ON sampling (epoch, stratum);

-- What is known of the previous epoch at the first draw of a stratum in an epoch: the same for all of its draws.
CREATE TABLE epoch_strata (
  epoch    bigint NOT NULL REFERENCES epochs,
  stratum  text NOT NULL,
  expected bigint NOT NULL CHECK (expected >= 0),
  PRIMARY KEY (epoch, stratum)
);
-- The share of a group's rates that its capacity allows in an epoch.
CREATE TABLE epoch_groups (
  epoch      bigint NOT NULL REFERENCES epochs,
  group_name text NOT NULL,
  demand     double precision NOT NULL,
  capacity   double precision NOT NULL,
  remaining  double precision NOT NULL CHECK (remaining > 0 AND remaining <= 1),
  PRIMARY KEY (epoch, group_name)
);
-- The same for each agent of such a group that asks for more than its share of the capacity; others have all they ask for.
CREATE TABLE epoch_agents (
  epoch      bigint NOT NULL,
  group_name text NOT NULL,
  agent      text NOT NULL,
  remaining  double precision NOT NULL CHECK (remaining > 0 AND remaining < 1),
  PRIMARY KEY (epoch, group_name, agent),
  FOREIGN KEY (epoch, group_name) REFERENCES epoch_groups
);
-- How many actions of an agent have been forced into the sample: its first under a new version, model, policy or tool
-- version, its failed ones of an epoch; and how many new versions and models an epoch has seen of it.
CREATE TABLE forced (name text PRIMARY KEY, taken bigint NOT NULL CHECK (taken >= 0));

-- What all strata of one rule, tool and agent have shown together, whatever versions and bands the agent names. Whoever
-- changes a sampling plan holds the lock on its family.
CREATE TABLE plan_families (
  family   text PRIMARY KEY,
  rule     text NOT NULL,
  agent    text NOT NULL,
  counters jsonb NOT NULL,
  -- Audits count from the generation of the last demotion on.
  since    bigint NOT NULL
);
-- Sampling plans, which move strata between approval and audit. The plan_state is part of the active generation, so all
-- plans are read with each: an agent's own words can open only as many as there are slots. Slot 0 is the stratum that the
-- others share.
CREATE TABLE sampling_plans (
  stratum    text PRIMARY KEY,
  family     text NOT NULL,
  slot       smallint NOT NULL CHECK (slot BETWEEN 0 AND 256),
  rule       text NOT NULL,
  plan_state      text NOT NULL CHECK (plan_state IN ('normal', 'tightened', 'pre_approval', 'discontinued')),
  switching_state jsonb NOT NULL,
  -- Audits count from the generation in which the plan last left pre-approval.
  since      bigint NOT NULL,
  pinned_by  text,
  pinned_for text,
  opened_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (family, slot),
  CHECK ((pinned_by IS NULL) = (pinned_for IS NULL))
);
CREATE TABLE plan_changes (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  stratum    text NOT NULL REFERENCES sampling_plans,
  was        text NOT NULL,
  plan_state      text NOT NULL,
  reason     text NOT NULL,
  generation bigint NOT NULL,
  -- Since the plan last left pre-approval: executed at once, audited of these, found wrong.
  executed   bigint NOT NULL,
  audited    bigint NOT NULL,
  wrong      bigint NOT NULL,
  at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What each auditor found. The audit itself has the settled finding.
CREATE TABLE findings (
  audit       uuid NOT NULL REFERENCES audits,
  auditor     text NOT NULL,
  finding     text NOT NULL CHECK (finding IN ('correct', 'wrong', 'unsure')),
  severity    text CHECK (severity IN ('minor', 'major', 'critical')),
  reason_code text,
  -- Reason and correction may have to be erased.
  reason      text,
  correction  bytea,
  patch       bytea,
  compensate  boolean NOT NULL DEFAULT false,
  kid         text NOT NULL,
  found_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (audit, auditor),
  CHECK ((finding = 'wrong') = (severity IS NOT NULL))
);
INSERT INTO findings (audit, auditor, finding, severity, reason, correction, kid, found_at)
SELECT id, judged_by, finding, CASE finding WHEN 'wrong' THEN 'major' END, note, correction, '', judged_at
FROM audits WHERE state = 'judged';

ALTER TABLE audits ADD COLUMN severity text CHECK (severity IN ('minor', 'major', 'critical'));
UPDATE audits SET severity = 'major' WHERE finding = 'wrong';
ALTER TABLE audits ADD COLUMN twice boolean NOT NULL DEFAULT false;
-- Counts up when another auditor is asked.
ALTER TABLE audits ADD COLUMN round integer NOT NULL DEFAULT 0;
ALTER TABLE audits DROP COLUMN note, DROP COLUMN correction, DROP COLUMN judged_by;
ALTER TABLE audits ADD CHECK ((state = 'judged') = (finding IS NOT NULL AND judged_at IS NOT NULL));
ALTER TABLE audits ADD CHECK ((finding = 'wrong') = (severity IS NOT NULL));
ALTER TABLE audits DROP CONSTRAINT audits_reason_check;
ALTER TABLE audits ADD CHECK (reason IN ('sampled', 'in_doubt', 'look_back'));

-- Auditors' requests that an action be undone. The compensation is an action of its own.
CREATE TABLE compensations (
  action   uuid PRIMARY KEY REFERENCES actions,
  audit    uuid NOT NULL REFERENCES audits,
  asked_by text NOT NULL,
  asked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Tasks for people where no tool can undo an action.
CREATE TABLE remediations (
  id        uuid PRIMARY KEY,
  action    uuid NOT NULL UNIQUE REFERENCES actions,
  owner     text NOT NULL,
  reason    text NOT NULL,
  due_at    timestamptz NOT NULL,
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_at timestamptz,
  closed_by text,
  evidence  text,
  CHECK ((closed_at IS NULL) = (closed_by IS NULL) AND (closed_at IS NULL) = (evidence IS NULL))
);
