-- A foreign key locks the referenced row for each row that is written. These tables have at least one row for every action,
-- each written in a transaction that has read or locked what it refers to: see V1.
ALTER TABLE approvals DROP CONSTRAINT approvals_action_fkey;
ALTER TABLE decisions DROP CONSTRAINT decisions_action_fkey;
ALTER TABLE ledger DROP CONSTRAINT ledger_evidence_fkey;
