-- Sampling epochs: a commitment to each key when the epoch opens, the key itself after it has closed. Never changed.
CREATE TABLE epochs (
  epoch      bigint PRIMARY KEY,
  commitment bytea NOT NULL CHECK (length(commitment) = 32),
  ends_at    timestamptz NOT NULL,
  opened_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE epoch_keys (
  epoch       bigint PRIMARY KEY REFERENCES epochs,
  key         bytea NOT NULL CHECK (length(key) = 32),
  revealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
