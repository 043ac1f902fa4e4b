-- Actions that their agents have withdrawn, also before the proposal itself has arrived.
CREATE TABLE cancellations (
  source       text NOT NULL,
  event_id     text NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (source, event_id)
);
CREATE INDEX cancellations_recent ON cancellations (requested_at);
