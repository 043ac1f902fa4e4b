//! Evidence of sampling: epochs, draws, rates and sampling plans.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    audit::ForcedReason,
    ids::AuditId,
    message::{Finding, Severity},
};

/// A draw, as anybody can repeat it once the epoch's key is revealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionSampled {
    /// The epoch whose key was used.
    pub epoch: i64,
    /// The stratum.
    pub stratum: String,
    /// Whether the tool was called.
    pub executed: bool,
    /// The inclusion probability π.
    pub pi: f64,
    /// R, 56 bits, in decimal: more than what JSON numbers carry exactly everywhere.
    pub r: String,
    /// Whether the action is audited.
    pub selected: bool,
    /// π before capacity.
    pub wanted: f64,
    /// Why π is 1 regardless of the rule.
    pub forced: Option<ForcedReason>,
    /// Up to how many actions are forced for that reason.
    pub cap: Option<u32>,
    /// How likely its rule thought it wrong, 0 to 1, where the rule has a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The audit, where the action was selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<SelectedAudit>,
}

/// The audit of an action that was selected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectedAudit {
    /// Its id.
    pub id: AuditId,
    /// Who may judge it.
    pub group: String,
    /// Whether two auditors judge it.
    pub twice: bool,
}

/// An audit opened without a draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenedAudit {
    /// Its id.
    pub id: AuditId,
    /// Who may judge it.
    pub group: String,
}

/// An audit of an action that was executed before its sampling plan returned to pre-approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookbackOpened {
    /// The audit.
    pub audit: OpenedAudit,
    /// The plan's stratum.
    pub stratum: String,
}

/// A gold item that auditors have judged: an audit of which the right finding is known. Nothing is written of it before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldSettled {
    /// Its id, which its findings name.
    pub audit: AuditId,
    /// The earlier audit that it showed again.
    pub of: AuditId,
    /// What had been found then.
    pub known: Finding,
    /// What was found now.
    pub finding: Finding,
    /// How bad the error is, according to these auditors.
    pub severity: Option<Severity>,
    /// How many findings that rests on.
    pub findings: usize,
    /// The epoch in which it was drawn.
    pub epoch: i64,
}

/// The beginning of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochOpened {
    /// Its number.
    pub epoch: i64,
    /// `sha256:…` of its key.
    pub commitment: String,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
}

/// The end of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochClosed {
    /// Its number.
    pub epoch: i64,
    /// Its key in hex.
    pub key: String,
}

/// Audit rates that a group's capacity does not cover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatesLowered {
    /// The epoch.
    pub epoch: i64,
    /// The group.
    pub group: String,
    /// How many audits the epoch before would have asked for.
    pub demand: f64,
    /// How many audits the group can judge in an epoch.
    pub capacity: f64,
    /// The factor on its rates, below 1.
    pub remaining: f64,
}

/// A new sampling plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingPlanOpened {
    /// Its stratum.
    pub stratum: String,
    /// The state that it starts in.
    pub plan_state: String,
}

/// A change of a sampling plan's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingPlanChanged {
    /// Its stratum.
    pub stratum: String,
    /// The state that it left.
    pub from: PlanCounters,
    /// The state that it is in now.
    pub to: PlanCounters,
    /// Why, with the numbers; `null` where an operator changed it, whose words may name people.
    pub reason: Option<String>,
    /// The generation from which on it holds.
    pub generation: i64,
    /// What it had counted since it last left pre-approval.
    #[serde(rename = "seen")]
    pub counts: PlanCounts,
    /// The operator who changed it.
    pub by: Option<String>,
}

/// A sampling plan's state and counters, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCounters {
    /// The state.
    pub state: String,
    /// In pre-approval: approvals without an error in a row.
    pub clean: u32,
    /// In pre-approval: reviews.
    pub reviews: u32,
    /// In pre-approval: clearances that failed.
    pub failed: u32,
    /// In normal and tightened: the CUSUM's level.
    pub level: u32,
    /// In tightened: audits in the present lot.
    pub lot: u32,
    /// In tightened: whether one of them was wrong.
    pub lot_wrong: bool,
    /// In tightened: clean lots in a row.
    pub clean_lots: u32,
}

/// What a sampling plan has counted since it last left pre-approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCounts {
    /// Actions executed without approval.
    pub executed: u64,
    /// Of these, sampled and judged.
    pub audited: u64,
    /// Judged wrong.
    pub wrong: u64,
}

/// A sampling plan pinned or unpinned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingPlanPinned {
    /// Its stratum.
    pub stratum: String,
    /// The operator who pinned it; `null` where it was unpinned.
    pub by: Option<String>,
}
