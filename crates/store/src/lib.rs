//! All SQL of Countersign: migrations, one statement per function, row types.
//!
//! **Only `transaction()`**: no manual BEGIN, no session state, no statement outside this crate. Whatever
//! writes a state writes its evidence in the same transaction.

pub mod pool;
pub mod generation;
pub mod holds;
pub mod actions;
pub mod payloads;
pub mod permits;
pub mod approvals;
pub mod claims;
pub mod outcomes;
pub mod sampling;
pub mod audits;
pub mod evidence;
pub mod quarantine;
pub mod sweeps;
pub mod listing;
pub mod report;
mod error;

pub use deadpool_postgres::Transaction;
pub use error::StoreError;
pub use pool::Store;
