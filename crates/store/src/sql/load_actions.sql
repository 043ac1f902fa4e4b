-- $2 is a `LoadDepth` as a number. Tables beyond that depth are not read.
SELECT a.id, a.source, a.event_id, a.agent, a.tool, a.state, a.verdict, a.rule, a.generation, a.policy_version,
       a.audit_rate, a.audit_score, a.audit_group, a.stratum, a.plan_state, a.compensates, a.approved, a.approvers, a.permit, a.fence, a.expires_at, a.proposed_at,
       a.decided_at, a.started_at, a.ended_at, a.traceparent,
       CASE WHEN $2 = 3 OR a.state = 'pending_approval' THEN p.body END AS body,
       p.content, COALESCE(p.content_salt, p.salt) AS salt, p.digest, p.edited,
       ap.id AS approval, ap.spec, ap.state AS approval_state, ap.rule AS approval_rule, ap.rule_text, ap.escalated, ap.opened_at,
       ap.expires_at AS approval_expires_at,
       CASE WHEN ap.id IS NOT NULL
            THEN (SELECT json_agg(json_build_object('reviewer', d.reviewer, 'decision', d.decision, 'kid', d.kid,
                                                    'signed_at', d.signed_at)) FROM decisions d
                  WHERE d.action = a.id AND d.digest = p.digest) END AS votes,
       CASE WHEN ap.id IS NOT NULL
            THEN ARRAY(SELECT DISTINCT d.reviewer FROM decisions d WHERE d.action = a.id AND d.decision = 'edit')
            ELSE '{}' END AS editors,
       o.seq, o.event AS outcome_event, o.result, o.error_code, o.error_message, o.retry_at,
       pm.bytes AS permit_bytes,
       a.state = 'executing' AND a.lease_until < clock_timestamp() AS interrupted,
       $2 = 3 AND EXISTS (SELECT FROM cancellations c WHERE c.source = a.source AND c.event_id = a.event_id) AS cancelled,
       clock_timestamp() AS now
FROM (SELECT DISTINCT unnest($1::uuid[]) AS id) wanted
CROSS JOIN LATERAL (SELECT * FROM actions WHERE id = wanted.id LIMIT 1) a
LEFT JOIN LATERAL (SELECT * FROM payloads WHERE $2 >= 1 AND action = wanted.id LIMIT 1) p ON true
LEFT JOIN LATERAL (SELECT * FROM approvals WHERE $2 >= 2 AND action = wanted.id LIMIT 1) ap ON true
LEFT JOIN LATERAL (SELECT seq, event, result, error_code, error_message, retry_at FROM outcomes
                   WHERE action = wanted.id ORDER BY seq DESC LIMIT 1) o ON true
LEFT JOIN LATERAL (SELECT bytes, issued_at FROM permits WHERE $2 >= 2 AND id = a.permit LIMIT 1) pm
  ON (a.state = 'authorised' OR (a.state = 'executing' AND pm.issued_at >= a.lease_until))
ORDER BY a.id
