-- What each process may do, once per database, as its owner, after the migrations. `countersign db grant` runs it.
-- Nobody may delete anything, and nobody may change evidence, permits, outcomes or sampling once written.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM countersign_router, countersign_executor, countersign_sampler, countersign_operator;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO countersign_router, countersign_executor, countersign_sampler, countersign_operator;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO countersign_router, countersign_executor, countersign_sampler, countersign_operator;
GRANT INSERT ON evidence, evidence_pending, quarantine TO countersign_router, countersign_executor, countersign_sampler, countersign_operator;
-- FOR SHARE needs the right to update some column; this one can only ever be true.
GRANT UPDATE (only_row) ON active TO countersign_router, countersign_executor, countersign_sampler, countersign_operator;

-- The router: everything up to the permit, and the outcomes of what is never executed.
GRANT INSERT ON actions, payloads, permits, approvals, decisions, outcomes TO countersign_router;
GRANT UPDATE (state, verdict, rule, generation, policy_version, audit_rate, audit_group, stratum, stage, approved,
              approvers, permit, decided_at, ended_at, state_at) ON actions TO countersign_router;
GRANT UPDATE (content, content_salt, digest, edited) ON payloads TO countersign_router;
GRANT UPDATE ON approvals TO countersign_router;
GRANT INSERT ON cancellations, statements, switches, remediations TO countersign_router;
GRANT INSERT, UPDATE ON limit_keys, limit_uses TO countersign_router;
GRANT UPDATE (replayed_at) ON quarantine TO countersign_router;

-- The executor: claims and results. It can neither approve nor issue a permit nor change a verdict.
GRANT UPDATE (state, fence, lease_until, started_at, ended_at, state_at) ON actions TO countersign_executor;
GRANT INSERT ON outcomes, late_results TO countersign_executor;
GRANT UPDATE (told_again_at) ON outcomes TO countersign_executor;
GRANT UPDATE ON sweep_marks TO countersign_executor;

-- The sampler: the coin, audits, what auditors found, and the stages of classes with the generation that they are
-- part of. It can neither open a class nor choose a configuration.
GRANT INSERT ON sampling, audits, outcomes, epochs, epoch_keys, epoch_strata, epoch_groups, forced, switched, findings,
                statements, compensations, remediations TO countersign_sampler;
GRANT UPDATE ON audits, forced TO countersign_sampler;
GRANT UPDATE (stage, state, since, switched_at) ON switches TO countersign_sampler;
GRANT UPDATE (generation) ON active TO countersign_sampler;
GRANT UPDATE (state, ended_at, state_at) ON actions TO countersign_sampler;

-- Operators: configurations, holds, classes that they pin or reset, remediation tasks that they close.
GRANT INSERT ON configs, active, holds, revoked_keys, switched TO countersign_operator;
GRANT UPDATE ON active, holds, switches, remediations TO countersign_operator;
