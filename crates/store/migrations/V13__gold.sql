-- Gold items: audits of which the right finding is known, because they show what an earlier, settled one showed. Their ids are of
-- the same kind as those of audits, and auditors cannot tell them apart. They have tables of their own: whatever counts audits,
-- or acts on a finding, does not meet them, and no compensation can refer to one.

-- What the draw of an action's audit asks for. `opened_at` is when an item was opened, or nothing was found to make one of.
CREATE TABLE gold_draws (
  action     uuid PRIMARY KEY REFERENCES actions,
  epoch      bigint NOT NULL REFERENCES epochs,
  group_name text NOT NULL,
  due_at     timestamptz NOT NULL,
  opened_at  timestamptz
);
CREATE INDEX gold_draws_due ON gold_draws (due_at) WHERE opened_at IS NULL;
CREATE INDEX gold_draws_epoch ON gold_draws (epoch);

-- `audit` is the earlier one, chosen by the epoch's key among the candidates.
CREATE TABLE gold_items (
  id           uuid PRIMARY KEY,
  draw         uuid NOT NULL UNIQUE REFERENCES gold_draws,
  audit        uuid NOT NULL REFERENCES audits,
  known        text NOT NULL CHECK (known IN ('correct', 'wrong')),
  candidates   uuid[] NOT NULL,
  group_name   text NOT NULL,
  twice        boolean NOT NULL,
  state        text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'judged', 'withdrawn')),
  round        integer NOT NULL DEFAULT 0,
  opened_at    timestamptz NOT NULL DEFAULT now(),
  published_at timestamptz NOT NULL DEFAULT now(),
  finding      text CHECK (finding IN ('correct', 'wrong')),
  judged_at    timestamptz,
  CHECK (audit = ANY (candidates)),
  CHECK ((state = 'judged') = (finding IS NOT NULL) AND (finding IS NULL) = (judged_at IS NULL))
);
CREATE UNIQUE INDEX gold_items_once ON gold_items (audit) WHERE state = 'open';
CREATE INDEX gold_items_of_audit ON gold_items (audit);
CREATE INDEX gold_items_open ON gold_items (published_at) WHERE state = 'open';

-- `blind`: this auditor had not judged the action before. Only then does the finding count.
CREATE TABLE gold_findings (
  item        uuid NOT NULL REFERENCES gold_items,
  auditor     text NOT NULL,
  blind       boolean NOT NULL,
  finding     text NOT NULL CHECK (finding IN ('correct', 'wrong', 'unsure')),
  severity    text CHECK (severity IN ('minor', 'major', 'critical')),
  reason_code text,
  -- Reason and correction may have to be erased.
  reason      text,
  correction  bytea,
  patch       bytea,
  compensate  boolean NOT NULL,
  kid         text NOT NULL,
  found_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (item, auditor),
  CHECK ((finding = 'wrong') = (severity IS NOT NULL))
);

-- What becomes evidence once the item is settled: in the ledger before that, it would tell the next auditor.
CREATE TABLE gold_notes (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  item     uuid NOT NULL REFERENCES gold_items,
  kind     text NOT NULL,
  body     json NOT NULL,
  noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX gold_notes_item ON gold_notes (item);

-- The actions that gold items have shown to the signer: apart from `actions`, from which messages to agents follow.
ALTER TABLE statements ADD COLUMN shown uuid[] NOT NULL DEFAULT '{}';
-- From where gold items are made.
CREATE INDEX audits_judged ON audits (group_name, finding, judged_at) WHERE state = 'judged';
