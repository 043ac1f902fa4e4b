//! All SQL of Countersign: migrations, one statement per function, row types.
//!
//! **Only `transaction()`**: no BEGIN anywhere else, no session state, no statement outside this crate. Whatever
//! writes a state writes its evidence in the same transaction.

pub mod actions;
pub mod approvals;
pub mod audits;
pub mod cancellations;
pub mod claims;
pub mod comparison;
pub mod compensations;
pub mod epochs;
pub mod erasure;
mod error;
pub mod evidence;
pub mod expected;
pub mod feedback;
pub mod generation;
pub mod gold;
mod held;
pub mod holds;
pub mod inbound_queues;
pub mod learning;
pub mod ledger;
pub mod limits;
pub mod listing;
pub mod notifications;
pub mod outcomes;
pub mod payloads;
pub mod permits;
pub mod pool;
mod probe;
pub mod quarantine;
pub mod rates;
pub mod remediations;
pub mod report;
pub mod reviewers;
pub mod revocations;
pub mod sampling;
pub mod sampling_plans;
pub mod statements;
pub mod sweeps;
mod transaction;
pub mod waiting;

/// What statements are sent on: a connection, or a [`Transaction`].
pub use deadpool_postgres::ClientWrapper as Client;
pub use error::StoreError;
pub use pool::{Login, Store};
pub use transaction::{Parameter, Pipeline, Transaction};
