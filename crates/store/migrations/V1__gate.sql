-- The gate: from proposal to outcome, sampling and audit.
-- State columns have the names of countersign-core; the CHECK constraints mirror its transition function.

-- The governed configuration, one row for each folder that was ever applied. Never changed.
CREATE TABLE configs (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  policy         text NOT NULL,
  tools          text NOT NULL,
  directory      text NOT NULL,
  policy_version text NOT NULL,
  policy_digest  text NOT NULL,
  applied_by     text NOT NULL,
  applied_at     timestamptz NOT NULL DEFAULT now()
);

-- The one active generation. Every router and claim transaction reads it FOR SHARE; every change of
-- configuration or holds takes it FOR UPDATE and advances it, so when the change returns nothing older starts.
CREATE TABLE active (
  only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  generation bigint NOT NULL,
  config     bigint NOT NULL REFERENCES configs
);

CREATE TABLE holds (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scope       text NOT NULL CHECK (scope IN ('everything', 'agent', 'tool', 'rule')),
  name        text NOT NULL DEFAULT '',
  reason      text NOT NULL,
  held_by     text NOT NULL,
  held_at     timestamptz NOT NULL DEFAULT now(),
  generation  bigint NOT NULL,
  released_by text,
  released_at timestamptz,
  CHECK ((released_by IS NULL) = (released_at IS NULL)),
  CHECK (released_by <> held_by)
);
CREATE INDEX holds_open ON holds (id) WHERE released_at IS NULL;

-- One row per action, kept narrow: it is updated twice. (source, event_id) keeps duplicates out.
CREATE TABLE actions (
  id             uuid PRIMARY KEY,
  source         text NOT NULL,
  event_id       text NOT NULL,
  agent          text NOT NULL,
  tool           text NOT NULL,
  state          text NOT NULL CHECK (state IN ('pending_approval', 'held', 'authorised', 'executing',
                   'succeeded', 'failed', 'denied', 'rejected', 'expired', 'cancelled', 'in_doubt')),
  verdict        text NOT NULL CHECK (verdict IN ('allow', 'require_approval', 'deny')),
  rule           text NOT NULL,
  generation     bigint NOT NULL,
  policy_version text NOT NULL,
  audit_rate     double precision NOT NULL CHECK (audit_rate BETWEEN 0 AND 1),
  audit_group    text NOT NULL,
  approved       boolean NOT NULL DEFAULT false,
  approvers      text[] NOT NULL DEFAULT '{}',
  permit         uuid,
  fence          integer NOT NULL DEFAULT 0,
  lease_until    timestamptz,
  expires_at     timestamptz,
  proposed_at    timestamptz NOT NULL DEFAULT now(),
  decided_at     timestamptz,
  state_at       timestamptz NOT NULL DEFAULT now(),
  started_at     timestamptz,
  ended_at       timestamptz,
  traceparent    text,
  UNIQUE (source, event_id),
  -- Promise 1, as far as a row can express it: without approval, an action that needs one has no permit and no claim.
  CHECK (state NOT IN ('authorised', 'executing', 'succeeded', 'failed', 'in_doubt')
         OR verdict = 'allow' OR (verdict = 'require_approval' AND approved)),
  CHECK (state NOT IN ('authorised', 'executing', 'succeeded', 'failed', 'in_doubt') OR permit IS NOT NULL),
  CHECK ((state = 'executing') = (lease_until IS NOT NULL)),
  CHECK ((state IN ('executing', 'succeeded', 'failed', 'in_doubt')) = (started_at IS NOT NULL)),
  CHECK ((state IN ('succeeded', 'failed', 'denied', 'rejected', 'expired', 'cancelled', 'in_doubt'))
         = (ended_at IS NOT NULL))
);
-- For the sweeps; without finished actions.
CREATE INDEX actions_open ON actions (state, state_at)
  WHERE state IN ('pending_approval', 'held', 'authorised', 'executing');
CREATE INDEX actions_ended ON actions (ended_at) WHERE started_at IS NOT NULL AND ended_at IS NOT NULL;

-- The tables with a row for every action have no foreign key to it: each is written by one statement that has
-- just written, claimed or locked the action, and the check would cost as much as the row.

-- What an erasure empties: the message as received, the canonical content that a human approves, the salt.
CREATE TABLE payloads (
  action      uuid PRIMARY KEY,
  body        bytea NOT NULL,
  content     bytea,
  salt        bytea NOT NULL CHECK (length(salt) = 16),
  body_digest bytea NOT NULL CHECK (length(body_digest) = 32),
  digest      bytea NOT NULL CHECK (length(digest) = 32)
);

CREATE TABLE permits (
  id         uuid PRIMARY KEY,
  action     uuid NOT NULL,
  generation bigint NOT NULL,
  bytes      bytea NOT NULL,
  issued_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE approvals (
  id           uuid PRIMARY KEY,
  action       uuid NOT NULL UNIQUE REFERENCES actions,
  group_name   text NOT NULL,
  rule         text NOT NULL,
  rule_text    text NOT NULL,
  state        text NOT NULL CHECK (state IN ('open', 'approved', 'rejected', 'expired', 'closed')),
  opened_at    timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz NOT NULL,
  published_at timestamptz NOT NULL DEFAULT now(),
  decided_by   text,
  reason       text,
  decided_at   timestamptz,
  CHECK ((state IN ('approved', 'rejected')) = (decided_by IS NOT NULL))
);
CREATE INDEX approvals_open ON approvals (expires_at) WHERE state = 'open';

-- How actions ended. `seq` 2 is the resolution of one that was in doubt.
CREATE TABLE outcomes (
  action        uuid NOT NULL,
  seq           smallint NOT NULL CHECK (seq IN (1, 2)),
  event         uuid NOT NULL,
  outcome       text NOT NULL,
  result        bytea,
  error_code    text,
  error_message text,
  at            timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (action, seq)
);

-- Outcomes that the broker has not confirmed yet, one note for all that a statement has stored. The executor writes a
-- note together with the outcomes and deletes it after the broker's confirm; a sweep republishes what remains.
CREATE TABLE pending_notifications (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  actions      uuid[] NOT NULL,
  stored_at    timestamptz NOT NULL DEFAULT now(),
  -- When a sweep last had them published again.
  repeated_at  timestamptz
);
-- Written once and read seldom: neither compressed nor moved out of line.
ALTER TABLE pending_notifications ALTER COLUMN actions SET STORAGE PLAIN;

-- Answers of tools that came after their calls had been given up. May have to be erased; the evidence holds the digest.
CREATE TABLE late_results (
  id     uuid PRIMARY KEY,
  action uuid NOT NULL,
  fence  integer NOT NULL,
  result bytea,
  at     timestamptz NOT NULL DEFAULT now()
);

-- What a lane writes to find out whether the database is well, when a message fails. Always empty.
CREATE TABLE probes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, filler bytea NOT NULL);
-- Never in the row's own page, which may have room when the disk has none.
ALTER TABLE probes ALTER COLUMN filler SET STORAGE EXTERNAL;

-- How far a sweep has scanned, so that it need not read the whole history.
CREATE TABLE sweep_marks (name text PRIMARY KEY, at timestamptz NOT NULL);
INSERT INTO sweep_marks VALUES ('drawn', '-infinity');

-- Sampling draws, one for every executed action.
CREATE TABLE sampling (
  action     uuid PRIMARY KEY,
  epoch      bigint NOT NULL,
  stratum    text NOT NULL,
  pi         double precision NOT NULL CHECK (pi BETWEEN 0 AND 1),
  r          bigint NOT NULL CHECK (r >= 0 AND r < 72057594037927936),
  selected   boolean NOT NULL,
  forced     text,
  sampled_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audits (
  id           uuid PRIMARY KEY,
  action       uuid NOT NULL UNIQUE REFERENCES actions,
  group_name   text NOT NULL,
  reason       text NOT NULL CHECK (reason IN ('sampled', 'in_doubt')),
  state        text NOT NULL CHECK (state IN ('open', 'judged')),
  opened_at    timestamptz NOT NULL DEFAULT now(),
  published_at timestamptz NOT NULL DEFAULT now(),
  finding      text CHECK (finding IN ('correct', 'wrong')),
  note         text,
  correction   bytea,
  judged_by    text,
  judged_at    timestamptz,
  CHECK ((state = 'judged') = (finding IS NOT NULL AND judged_by IS NOT NULL AND judged_at IS NOT NULL))
);
CREATE INDEX audits_open ON audits (published_at) WHERE state = 'open';

-- Messages that could not be processed, and their senders.
CREATE TABLE quarantine (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  body           bytea NOT NULL,
  truncated      boolean NOT NULL DEFAULT false,
  author         text,
  exchange       text NOT NULL,
  routing_key    text NOT NULL,
  code           text NOT NULL,
  message        text NOT NULL,
  quarantined_at timestamptz NOT NULL DEFAULT now(),
  replayed_at    timestamptz
);
CREATE INDEX quarantine_newest ON quarantine (quarantined_at);

-- Evidence: written with the state it describes, in one transaction; never changed or deleted.
CREATE TABLE evidence (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event       uuid NOT NULL,
  action      uuid,
  kind        text NOT NULL,
  body        json NOT NULL,
  occurred_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX evidence_of_action ON evidence (action) WHERE action IS NOT NULL;
-- Evidence that is not in the ledger yet: ids commit out of order, so "after the last one" would skip some.
CREATE TABLE evidence_pending (evidence bigint PRIMARY KEY);
