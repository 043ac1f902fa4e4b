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

-- The key that signed a decision: once it is revoked, the decision no longer counts. Signed anew, it counts again.
ALTER TABLE decisions ADD COLUMN kid text NOT NULL DEFAULT '';
ALTER TABLE decisions DROP CONSTRAINT decisions_pkey;
ALTER TABLE decisions ADD PRIMARY KEY (action, digest, reviewer, kid);

-- Keys that have been revoked, whatever a later folder says of them.
CREATE TABLE revoked_keys (
  kid        text PRIMARY KEY,
  revoked_by text NOT NULL,
  revoked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Edited content has a salt of its own: what is edited back is not what was approved before.
ALTER TABLE payloads ADD COLUMN content_salt bytea CHECK (length(content_salt) = 16);

-- The groups to which a request has escalated, as far as evidence says so.
ALTER TABLE approvals ADD COLUMN escalated text[] NOT NULL DEFAULT '{}';

-- The agent's earlier action in whose place this one comes.
ALTER TABLE actions ADD COLUMN supersedes uuid;
