-- What each process may do, once per database, as its owner, after the migrations. `countersign db grant` runs it.
-- Nobody may delete anything, except that the recorder and the executor delete their notes of what is still to be recorded
-- and published, lanes their probes, and the router withdrawals of what has never come and proposals that have had their turn.
-- Nobody may change evidence, the ledger, permits, draws or outcomes once written, except that the eraser empties what is about
-- people.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM countersign_router, countersign_executor, countersign_sampler, countersign_operator, countersign_recorder, countersign_eraser;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO countersign_router, countersign_executor, countersign_sampler, countersign_operator, countersign_recorder, countersign_eraser;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO countersign_router, countersign_executor, countersign_sampler, countersign_operator, countersign_recorder, countersign_eraser;
GRANT INSERT ON evidence, evidence_pending, quarantine TO countersign_router, countersign_executor, countersign_sampler, countersign_operator;
GRANT INSERT, DELETE ON probes TO countersign_router, countersign_executor, countersign_sampler;
-- FOR SHARE needs the right to update some column; this one can only ever be true.
GRANT UPDATE (only_row) ON active TO countersign_router, countersign_executor, countersign_sampler, countersign_operator, countersign_eraser;

-- The router: everything up to the permit, and the outcomes of what is never executed.
GRANT INSERT ON actions, payloads, permits, approvals, decisions, outcomes TO countersign_router;
GRANT UPDATE (state, verdict, rule, generation, policy_version, audit_rate, audit_score, audit_group, stratum, plan_state, approved,
              approvers, permit, decided_at, ended_at, state_at) ON actions TO countersign_router;
GRANT UPDATE (content, content_salt, digest, edited) ON payloads TO countersign_router;
GRANT UPDATE ON approvals TO countersign_router;
GRANT DELETE ON cancellations, waiting TO countersign_router;
GRANT INSERT, UPDATE ON agent_rates TO countersign_router;
GRANT INSERT, UPDATE (called_at, admitted_at, withdrawn, body) ON waiting TO countersign_router;
GRANT INSERT ON cancellations, statements, plan_families, sampling_plans, remediations TO countersign_router;
GRANT INSERT, UPDATE ON limit_keys, limit_uses TO countersign_router;
GRANT UPDATE (replayed_at) ON quarantine TO countersign_router;

-- The executor: claims and results. It can neither approve nor issue a permit nor change a verdict.
GRANT UPDATE (state, fence, lease_until, started_at, ended_at, state_at) ON actions TO countersign_executor;
GRANT INSERT ON outcomes, late_results TO countersign_executor;
GRANT INSERT, UPDATE, DELETE ON pending_notifications TO countersign_executor;

-- The sampler: draws, audits, findings, and the states of sampling plans with the generation that they are part of. It can
-- neither open a plan nor choose a configuration.
GRANT INSERT ON sampling, audits, outcomes, epochs, epoch_keys, epoch_strata, epoch_groups, epoch_agents, forced, plan_changes, findings,
                statements, compensations, remediations, gold_draws, gold_items, gold_findings, gold_notes,
                plan_cells, plan_audits TO countersign_sampler;
GRANT UPDATE (executed, judged, wrong, missing) ON plan_cells TO countersign_sampler;
GRANT UPDATE (settled) ON plan_audits TO countersign_sampler;
GRANT UPDATE (opened_at) ON gold_draws TO countersign_sampler;
GRANT UPDATE (state, round, published_at, finding, judged_at) ON gold_items TO countersign_sampler;
GRANT UPDATE ON audits, forced, sweep_marks TO countersign_sampler;
GRANT UPDATE (plan_state, switching_state, since, changed_at) ON sampling_plans TO countersign_sampler;
GRANT UPDATE (counters, since) ON plan_families TO countersign_sampler;
GRANT UPDATE (generation) ON active TO countersign_sampler;
GRANT UPDATE (state, ended_at, state_at) ON actions TO countersign_sampler;

-- Operators: configurations, holds, plans that they pin or reset, remediation tasks that they close.
GRANT INSERT ON configs, active, inbound_queues, holds, revoked_keys, plan_changes TO countersign_operator;
GRANT UPDATE ON active, holds, plan_families, sampling_plans, remediations TO countersign_operator;

-- The recorder: it alone appends to the ledger, and deletes the notes of what it has recorded.
GRANT INSERT ON ledger, ledger_nodes, checkpoints TO countersign_recorder;
GRANT UPDATE ON recorder TO countersign_recorder;
GRANT DELETE ON evidence_pending TO countersign_recorder;

-- Whoever erases what is about a person: empties payloads and free text, and places and releases legal holds.
GRANT INSERT ON evidence, evidence_pending, erasures, legal_holds TO countersign_eraser;
GRANT UPDATE ON legal_holds TO countersign_eraser;
GRANT UPDATE (body, content, edited, salt, content_salt) ON payloads TO countersign_eraser;
GRANT UPDATE (result, error_message) ON outcomes TO countersign_eraser;
GRANT UPDATE (result) ON late_results TO countersign_eraser;
GRANT UPDATE (reason, correction, patch) ON findings, gold_findings TO countersign_eraser;
GRANT UPDATE (state) ON gold_items TO countersign_eraser;
GRANT UPDATE (evidence) ON remediations TO countersign_eraser;
GRANT UPDATE (reason) ON decisions TO countersign_eraser;
GRANT UPDATE (disclosures) ON statements TO countersign_eraser;
GRANT UPDATE (body, message) ON quarantine TO countersign_eraser;
