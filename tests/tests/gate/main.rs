//! The gate, end to end, on real RabbitMQ and PostgreSQL.

mod approvals;
mod attacks;
mod audits;
mod bad_input;
mod bundles;
mod cancel;
mod claims;
mod cli;
mod compensation;
mod execution;
mod findings;
mod governance;
mod isolation;
mod json;
mod learning;
mod ledger;
mod limits;
mod quorum;
mod rates;
mod recorded;
mod reviewer_app;
mod signatures;
mod stream;
mod switching;
mod transactions;
mod trust;
