//! Evidence of what operators do, and of what is quarantined, remedied and erased.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::refusal::Code;

/// A configuration that became the active one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigApplied {
    /// The generation from which on it holds.
    pub generation: i64,
    /// The configuration: `configs.id`.
    pub config: i64,
    /// The operator.
    pub by: String,
    /// The policy's version.
    pub policy_version: String,
    /// `sha256:…` of the policy's text.
    pub policy_digest: String,
}

/// An operator's stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldPlaced {
    /// The hold.
    pub hold: i64,
    /// What it covers: everything, an agent, a tool or a rule.
    pub scope: String,
    /// The agent, tool or rule.
    pub name: String,
    /// The operator.
    pub by: String,
    /// The generation from which on it holds.
    pub generation: i64,
}

/// The end of an operator's stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldReleased {
    /// The hold.
    pub hold: i64,
    /// The operator.
    pub by: String,
    /// The generation from which on it no longer holds.
    pub generation: i64,
}

/// A legal hold placed or released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegalHoldNoted {
    /// The legal hold.
    pub hold: i64,
    /// The operator.
    pub by: String,
}

/// An erasure on one action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PayloadErased {
    /// The erasure.
    pub erasure: Uuid,
    /// The operator.
    pub by: String,
    /// The parts that were erased, such as `content` or `result`.
    pub parts: BTreeSet<String>,
}

/// An erasure in the quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineErased {
    /// The erasure.
    pub erasure: Uuid,
    /// The operator.
    pub by: String,
    /// How many messages were emptied.
    pub messages: u64,
}

/// A message in the quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageQuarantined {
    /// Its id.
    pub quarantine: i64,
    /// Why.
    pub code: Code,
    /// Where it was published to.
    pub exchange: String,
}

/// A replay from the quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageReplayed {
    /// The message's id.
    pub quarantine: i64,
}

/// A new remediation task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemediationOpened {
    /// Its id.
    pub remediation: Uuid,
    /// The group that owns it.
    pub owner: String,
    /// Why no tool can do it.
    pub reason: String,
    /// When it is due.
    pub due_at: DateTime<Utc>,
}

/// A completed remediation task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemediationClosed {
    /// Its id.
    pub remediation: Uuid,
    /// The person who closed it.
    pub by: String,
}
