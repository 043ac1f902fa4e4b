-- Cumulative limits: what each action adds to the sum of a limit and a key. An action that was rejected, failed or
-- otherwise ended without effect does not count: the sum leaves it out by its state.
CREATE TABLE limit_keys (
  limit_id text NOT NULL,
  key      text NOT NULL,
  PRIMARY KEY (limit_id, key)
);
CREATE TABLE limit_uses (
  action   uuid PRIMARY KEY,
  limit_id text NOT NULL,
  key      text NOT NULL,
  amount   numeric NOT NULL CHECK (amount BETWEEN 0 AND 1000000000000000000),
  -- The action's end, from which the limit's period runs: until then it counts. Copied from the action when the sum is
  -- read next, so that actions that ended long ago need not be looked at.
  ended_at timestamptz NOT NULL DEFAULT 'infinity'
);
CREATE INDEX limit_uses_sum ON limit_uses (limit_id, key, ended_at);
