-- Cumulative limits: what each action adds to the sum of a rule and a key. An action that was rejected, failed or
-- otherwise ended without effect does not count: the sum leaves it out by its state.
CREATE TABLE limit_keys (
  rule text NOT NULL,
  key  text NOT NULL,
  PRIMARY KEY (rule, key)
);
CREATE TABLE limit_uses (
  action uuid PRIMARY KEY,
  rule   text NOT NULL,
  key    text NOT NULL,
  amount numeric NOT NULL CHECK (amount >= 0),
  at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX limit_uses_sum ON limit_uses (rule, key, at);
