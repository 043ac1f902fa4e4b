-- A claim, and a decision that does not end the action, change no indexed column: their new row version goes to the same page
-- (HOT), and no index is written. The page needs room for it.
DROP INDEX actions_open;
DROP INDEX actions_ended;
-- For the sweeps; without ended actions.
CREATE INDEX actions_open ON actions (proposed_at) WHERE ended_at IS NULL;
CREATE INDEX actions_ended ON actions (ended_at) WHERE ended_at IS NOT NULL;
ALTER TABLE actions SET (fillfactor = 60);
