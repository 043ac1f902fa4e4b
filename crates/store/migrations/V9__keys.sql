-- A foreign key locks the row that it names, for each row that is written. These tables have one and more for every action, and
-- each is written by a statement whose transaction has read or locked what the row is about: see V1.
ALTER TABLE approvals DROP CONSTRAINT approvals_action_fkey;
ALTER TABLE decisions DROP CONSTRAINT decisions_action_fkey;
ALTER TABLE ledger DROP CONSTRAINT ledger_evidence_fkey;
