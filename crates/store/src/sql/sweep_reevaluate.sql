-- Each part has its own limit, so that deadlines are kept however much waits for an executor.
(SELECT a.id FROM actions a, active
 WHERE a.ended_at IS NULL AND a.state <> 'executing'
   AND (a.expires_at <= now() OR a.generation < active.generation)
 ORDER BY a.proposed_at LIMIT $2)
UNION
(SELECT id FROM actions
 WHERE ended_at IS NULL AND state = 'authorised' AND state_at < now() - make_interval(secs => $1)
 ORDER BY state_at LIMIT $2)
UNION
(SELECT action FROM approvals WHERE state = 'open' AND expires_at <= now() ORDER BY expires_at LIMIT $2)
UNION
-- Withdrawn while its proposal was being stored: the withdrawal did not see it.
(SELECT a.id FROM cancellations c JOIN actions a ON a.source = c.source AND a.event_id = c.event_id
 WHERE a.ended_at IS NULL AND a.state <> 'executing' AND c.early AND c.requested_at > now() - interval '1 day'
 LIMIT $2)
