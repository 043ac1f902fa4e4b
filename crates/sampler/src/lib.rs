//! The sampler: an action after its outcome: the sampling coin, audits, findings.
