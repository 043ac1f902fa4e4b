-- The ledger: evidence in its final order, as an RFC 6962 Merkle tree. Only the recorder inserts, and nobody changes a row.
CREATE TABLE ledger (
  index       bigint PRIMARY KEY CHECK (index >= 0),
  evidence    bigint NOT NULL UNIQUE REFERENCES evidence,
  event       uuid NOT NULL,
  action      uuid,
  kind        text NOT NULL,
  entry       bytea NOT NULL CHECK (length(entry) BETWEEN 1 AND 65535),
  leaf        bytea NOT NULL CHECK (length(leaf) = 32)
);
CREATE INDEX ledger_of_action ON ledger (action, index) WHERE action IS NOT NULL;

-- Hashes above full tiles, which a proof needs besides the leaves of two tiles.
CREATE TABLE ledger_nodes (
  level smallint NOT NULL CHECK (level BETWEEN 1 AND 6),
  index bigint NOT NULL,
  hash  bytea NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, index)
);

-- Signed checkpoints, one for each batch: a batch's entries were recorded at its checkpoint's time.
CREATE TABLE checkpoints (
  size      bigint PRIMARY KEY,
  root      bytea NOT NULL CHECK (length(root) = 32),
  note      text NOT NULL,
  signed_at timestamptz NOT NULL
);
CREATE INDEX checkpoints_signed ON checkpoints (signed_at);

-- The one recorder that may append: it holds a lease, and its fence counts up with every takeover.
CREATE TABLE recorder (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  fence    bigint NOT NULL DEFAULT 0,
  holder   text,
  until    timestamptz NOT NULL DEFAULT '-infinity',
  size     bigint NOT NULL DEFAULT 0
);
INSERT INTO recorder DEFAULT VALUES;

-- The few rows of evidence that are looked up by kind.
CREATE INDEX evidence_governing ON evidence (kind, id) WHERE kind IN ('config.applied', 'epoch.opened', 'epoch.closed');

-- For an action's bundle.
CREATE INDEX statements_of_action ON statements USING gin (actions);

-- Legal holds against erasure. The person that a hold covers is stored as a salted digest.
CREATE TABLE legal_holds (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  salt        bytea CHECK (length(salt) = 16),
  subject     bytea CHECK (length(subject) = 32),
  action      uuid REFERENCES actions,
  reason      text NOT NULL,
  placed_by   text NOT NULL,
  placed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  released_by text,
  released_at timestamptz,
  CHECK ((salt IS NULL) = (subject IS NULL)),
  CHECK ((subject IS NULL) <> (action IS NULL)),
  CHECK ((released_by IS NULL) = (released_at IS NULL))
);

-- Erasures. The person is not recorded.
CREATE TABLE erasures (
  id        uuid PRIMARY KEY,
  erased_by text NOT NULL,
  actions   uuid[] NOT NULL,
  erased_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
