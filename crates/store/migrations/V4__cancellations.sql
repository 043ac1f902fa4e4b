-- Actions that their agents have withdrawn, also before the proposal itself has arrived.
CREATE TABLE cancellations (
  source       text NOT NULL,
  event_id     text NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- Whether there was no such action yet. An agent can name what never comes, so only its latest are kept.
  early        boolean NOT NULL,
  PRIMARY KEY (source, event_id)
);
CREATE INDEX cancellations_early ON cancellations (source, requested_at) WHERE early;
