-- A claim, and a decision that does not end the action, change nothing that is indexed: their new row goes beside the old
-- one, on its page, and no index is written. For that the page needs room.
DROP INDEX actions_open;
DROP INDEX actions_ended;
-- What the sweeps look for; what has ended is not in it.
CREATE INDEX actions_open ON actions (proposed_at) WHERE ended_at IS NULL;
CREATE INDEX actions_ended ON actions (ended_at) WHERE ended_at IS NOT NULL;
ALTER TABLE actions SET (fillfactor = 60);
