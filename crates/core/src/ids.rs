//! One type per id, so that the compiler rejects an action's id where an approval's is meant.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

id! {
    /// An action in Countersign's own tables. Agents know it by `source` and `id`.
    ActionId
}
id! {
    /// An approval request.
    ApprovalId
}
id! {
    /// A permit. An action that is evaluated again gets a new one.
    PermitId
}
id! {
    /// An audit of an action.
    AuditId
}

/// The longest name from outside, in bytes: a `source`, an `id`, a tool, an agent's version and the like.
pub const NAME_MAX: usize = 256;

/// Whether a text may be a name: 1 to [`NAME_MAX`] bytes without control characters.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX && !text.chars().any(char::is_control)
}

/// The name that an agent gives its action: the CloudEvents `source` and `id` of the proposal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ActionRef {
    /// `/agents/<agent id>`.
    pub source: String,
    /// Unique per source.
    pub id: String,
}

impl ActionRef {
    /// The `source` of an agent's actions.
    pub fn source_of(agent: &str) -> String {
        format!("/agents/{agent}")
    }
}

impl fmt::Display for ActionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.source, self.id)
    }
}
