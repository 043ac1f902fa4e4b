-- Proposals of agents that are over their quotas, as they came, until their turn. Once admitted, a row stays a while without its
-- body: the command that admitted it may be delivered again.
CREATE TABLE waiting (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  agent       text NOT NULL,
  -- The id that the agent gave the action; empty where the message has none.
  event_id    text NOT NULL,
  body        bytea NOT NULL,
  author      text NOT NULL,
  exchange    text NOT NULL,
  routing_key text NOT NULL,
  -- From then on it is admitted whether or not there is room: it will not be executed.
  expires_at  timestamptz,
  withdrawn   boolean NOT NULL DEFAULT false,
  arrived_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  called_at   timestamptz,
  admitted_at timestamptz
);
-- A message that is sent again while it waits is the same one; another under the same id is not.
CREATE UNIQUE INDEX waiting_once ON waiting (agent, event_id, sha256(body)) WHERE admitted_at IS NULL;
CREATE INDEX waiting_turn ON waiting (agent, id) INCLUDE (called_at) WHERE admitted_at IS NULL;
CREATE INDEX waiting_withdrawn ON waiting (agent) WHERE admitted_at IS NULL AND withdrawn;
CREATE INDEX waiting_expires ON waiting (expires_at) WHERE admitted_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX waiting_admitted ON waiting (admitted_at) WHERE admitted_at IS NOT NULL;

-- The queues that agents publish to, also of those who have left the directory: what they sent before is still processed.
CREATE TABLE inbound_queues (
  queue text PRIMARY KEY
);

-- Until when an agent has used up its rate.
CREATE TABLE agent_rates (
  agent      text PRIMARY KEY,
  used_until timestamptz NOT NULL
);

-- What an agent has under way.
CREATE INDEX actions_of_agent ON actions (agent) WHERE ended_at IS NULL;

ALTER TABLE outcomes ADD COLUMN retry_at timestamptz;
