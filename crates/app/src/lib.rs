//! Use cases: commands that change something, and queries that only read.
//!
//! A request and its answer are types; the answer serialises to what `--json` prints. **No clap, no HTTP and no printing
//! here, and no authority**: what a use case submits is authenticated and signed like any other message.

pub mod actions;
pub mod answers;
pub mod apply;
pub mod approvals;
pub mod audits;
pub mod configuration;
pub mod connections;
pub mod contract;
pub mod database;
pub mod decisions;
pub mod erasure;
pub mod error;
pub mod export;
pub mod findings;
pub mod folder;
pub mod holds;
pub mod ledger;
mod operators;
pub mod policy;
pub mod proposal;
pub mod quarantine;
pub mod remediations;
pub mod report;
pub mod sampling_plans;
pub mod stream;
pub mod submit;
pub mod users;

pub use connections::Connections;
pub use error::AppError;
