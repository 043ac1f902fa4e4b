//! The texts of a governed configuration, as they are stored and hashed.

use serde::{Deserialize, Serialize};

/// The texts of a generation, with `${NAME}` already replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// `policy.yaml`.
    pub policy: String,
    /// `tools.yaml`.
    pub tools: String,
    /// `directory.yaml`.
    pub directory: String,
}
