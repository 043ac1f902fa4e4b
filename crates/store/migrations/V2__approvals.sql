-- Approvals by more than one person: what a request asks for is one document, each decision is a row.

-- Who decided what on which content. Decisions on earlier content do not count and stay on record.
CREATE TABLE decisions (
  action      uuid NOT NULL REFERENCES actions,
  digest      bytea NOT NULL CHECK (length(digest) = 32),
  reviewer    text NOT NULL,
  decision    text NOT NULL CHECK (decision IN ('approve', 'reject', 'edit', 'respond')),
  approval    uuid NOT NULL,
  event       text NOT NULL,
  reason_code text,
  reason      text,
  decided_at  timestamptz NOT NULL,
  PRIMARY KEY (action, digest, reviewer)
);

INSERT INTO decisions
SELECT p.action, y.digest, p.decided_by, CASE p.state WHEN 'approved' THEN 'approve' ELSE 'reject' END,
       p.id, p.id::text, NULL, p.reason, p.decided_at
FROM approvals p JOIN payloads y ON y.action = p.action
WHERE p.decided_by IS NOT NULL;

ALTER TABLE approvals ADD COLUMN spec jsonb;
UPDATE approvals SET spec = jsonb_build_object(
  'require', jsonb_build_array(jsonb_build_object('group', group_name, 'count', 1)),
  'reject_after', 1, 'expires_after', extract(epoch FROM expires_at - opened_at)::bigint,
  'escalate', '[]'::jsonb, 'decisions', '["approve", "reject"]'::jsonb, 'reason_codes', '[]'::jsonb,
  'edit_counts', false, 'exclude', '[]'::jsonb);
ALTER TABLE approvals ALTER COLUMN spec SET NOT NULL;
ALTER TABLE approvals DROP COLUMN group_name, DROP COLUMN decided_by, DROP COLUMN reason;
ALTER TABLE approvals ADD CHECK ((state = 'open') = (decided_at IS NULL)) NOT VALID;

-- The ids of requests that this one has replaced: a decision on one of them is answered accordingly.
ALTER TABLE approvals ADD COLUMN replaced uuid[] NOT NULL DEFAULT '{}';
CREATE INDEX approvals_replaced ON approvals USING gin (replaced) WHERE replaced <> '{}';

-- The canonical arguments that a reviewer put in place of the agent's.
ALTER TABLE payloads ADD COLUMN edited bytea;
