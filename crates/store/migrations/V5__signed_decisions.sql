-- What reviewers signed, once each: a key's `jti` counts once. Written with its results, so that a repeated message
-- gets the same answer. Never changed.
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
  -- Not jsonb: foreign texts may contain \u0000.
  answers     json NOT NULL,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (kid, jti)
);

-- The key that signed a decision: once it is revoked, the decision no longer counts until it is signed with another.
ALTER TABLE decisions ADD COLUMN kid text NOT NULL DEFAULT '';
-- When it was signed: a person's later decision on a content replaces the earlier one while the request is open.
ALTER TABLE decisions ADD COLUMN signed_at timestamptz;
UPDATE decisions SET signed_at = decided_at;
ALTER TABLE decisions ALTER COLUMN signed_at SET NOT NULL;
ALTER TABLE decisions DROP CONSTRAINT decisions_pkey;
ALTER TABLE decisions ADD PRIMARY KEY (action, digest, reviewer, kid, signed_at, decision);

-- Revoked keys, whatever a later configuration says of them.
CREATE TABLE revoked_keys (
  kid        text PRIMARY KEY,
  revoked_by text NOT NULL,
  revoked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Edited content has a salt of its own: editing the content back does not revive an earlier approval.
ALTER TABLE payloads ADD COLUMN content_salt bytea CHECK (length(content_salt) = 16);

-- The groups to which a request has escalated, according to the evidence.
ALTER TABLE approvals ADD COLUMN escalated text[] NOT NULL DEFAULT '{}';

-- The agent's earlier action that this one replaces.
ALTER TABLE actions ADD COLUMN supersedes uuid;
