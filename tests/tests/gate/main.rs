//! The gate, end to end, on real RabbitMQ and PostgreSQL.

mod approvals;
mod audits;
mod bad_input;
mod cancel;
mod cli;
mod execution;
mod governance;
mod isolation;
mod ledger;
mod limits;
mod quorum;
mod reviewer_app;
mod signatures;
mod trust;
