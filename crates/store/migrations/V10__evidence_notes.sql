-- Evidence that is not in the ledger yet: one note for all rows of a statement instead of one for each row.
ALTER TABLE evidence_pending RENAME TO evidence_pending_before;
ALTER TABLE evidence_pending_before RENAME CONSTRAINT evidence_pending_pkey TO evidence_pending_before_pkey;

CREATE TABLE evidence_pending (
  -- The lowest of the ids. For one action, later statements have higher ids than all earlier ones.
  first    bigint PRIMARY KEY,
  evidence bigint[] NOT NULL,
  rows     integer NOT NULL GENERATED ALWAYS AS (cardinality(evidence)) STORED CHECK (rows BETWEEN 1 AND 500)
);
-- Written once and read once: neither compressed nor moved out of line.
ALTER TABLE evidence_pending ALTER COLUMN evidence SET STORAGE PLAIN;
INSERT INTO evidence_pending SELECT evidence, ARRAY[evidence] FROM evidence_pending_before;
DROP TABLE evidence_pending_before;
