-- What reviewers signed, once each: a key's `jti` counts once. Written with what became of it, so that a message that
-- comes again is answered as it was the first time. Never changed.
CREATE TABLE statements (
  kid         text NOT NULL,
  jti         text NOT NULL,
  event       text NOT NULL,
  sender      text NOT NULL,
  reviewer    text NOT NULL,
  jws         text NOT NULL,
  -- Reasons and edited arguments, of which the signed payload holds digests. May have to be erased.
  disclosures text[] NOT NULL,
  signed_at   timestamptz NOT NULL,
  actions     uuid[] NOT NULL,
  -- Not jsonb: what others wrote may hold \u0000.
  answers     json NOT NULL,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (kid, jti)
);

-- The groups to which a request has escalated, as far as evidence says so.
ALTER TABLE approvals ADD COLUMN escalated text[] NOT NULL DEFAULT '{}';

-- The agent's earlier action in whose place this one comes.
ALTER TABLE actions ADD COLUMN supersedes uuid;
