//! Countersign's domain: states, policy, permits, sampling, message types; no I/O.
