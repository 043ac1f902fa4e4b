-- How likely its rule thought an action wrong at its evaluation; null where the rule has no score. The audit rate follows from it.
ALTER TABLE actions ADD COLUMN audit_score double precision CHECK (audit_score BETWEEN 0 AND 1);
