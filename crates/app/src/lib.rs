//! Every use case once: commands that change something, queries that read.
//!
//! A request and its answer are types; the answer serialises to what `--json` prints. **No clap, no HTTP and no printing
//! here, and no authority**: whatever a use case submits is authenticated and signed like anybody's.

pub mod connections;
pub mod error;

pub use connections::Connections;
pub use error::AppError;
