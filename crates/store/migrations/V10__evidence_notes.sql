-- What is not in the ledger yet, noted once for all that a statement has written, and not once for each row.
ALTER TABLE evidence_pending RENAME TO evidence_pending_before;
ALTER TABLE evidence_pending_before RENAME CONSTRAINT evidence_pending_pkey TO evidence_pending_before_pkey;

CREATE TABLE evidence_pending (
  -- The lowest of the ids: of one action, who writes later has higher ids than all before.
  first    bigint PRIMARY KEY,
  evidence bigint[] NOT NULL,
  rows     integer NOT NULL GENERATED ALWAYS AS (cardinality(evidence)) STORED CHECK (rows BETWEEN 1 AND 500)
);
-- Written once and read once: neither compressed nor put elsewhere.
ALTER TABLE evidence_pending ALTER COLUMN evidence SET STORAGE PLAIN;
INSERT INTO evidence_pending SELECT evidence, ARRAY[evidence] FROM evidence_pending_before;
DROP TABLE evidence_pending_before;
