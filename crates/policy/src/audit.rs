//! How executed actions are audited, and how rules switch between approval and audit.

use std::{collections::BTreeMap, time::Duration};

use countersign_statistics::switching::{Caps, Plan};
use serde::{Deserialize, Serialize};

/// How often an executed action is audited, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditSpec {
    /// The wanted inclusion probability, 0 to 1.
    pub rate: f64,
    /// The lowest inclusion probability that a lack of auditors may lead to. Equals the rate unless the policy sets it.
    pub floor: f64,
    /// The inclusion probability that a score can raise the rate to, 1 unless the policy sets it.
    pub ceiling: f64,
    /// How many audits of a stratum are wanted per epoch; 0 asks for none beyond the rate.
    pub at_least: u32,
    /// The group of auditors.
    pub group: String,
}

impl AuditSpec {
    /// The wanted π before capacity limits it: max(rate, n/N), where n is `at_least` and N the expected number of
    /// actions. It is 1 if `expected` is 0, that is, unknown.
    pub fn wanted(&self, expected: u64) -> f64 {
        let share = match (self.at_least, expected) {
            (0, _) => 0.0,
            (_, 0) => 1.0,
            (n, expected) => f64::from(n) / expected as f64,
        };
        share.max(self.rate).min(1.0)
    }

    /// π: the wanted probability times `left`, the share of it that capacity allows, but never below the floor.
    pub fn pi(&self, wanted: f64, left: f64) -> f64 {
        (wanted * left).clamp(self.floor, 1.0)
    }
}

/// How a rule switches between approval and audit.
#[derive(Debug, Clone, PartialEq)]
pub struct Switching {
    /// The sampling plan.
    pub plan: Plan,
    /// Beyond which all strata of an agent under the rule return to approval.
    pub caps: Caps,
    /// How many of the last actions are audited when a stratum returns to approval.
    pub look_back: u32,
}

/// Settings for all audits of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Audits {
    /// How many actions of an agent are all audited under a new version, model, policy or tool version.
    pub first: u32,
    /// How many failed executions of each agent are all audited in an epoch.
    pub failed: u32,
    /// The inclusion probability of actions that were rejected or denied.
    pub not_executed: f64,
    /// The share of audits that two people carry out without seeing each other's finding.
    pub twice: f64,
    /// How many gold items there are for each audit that is drawn, 0 to 0.5: audits of which the right finding is known.
    pub gold: f64,
    /// The line that says so, for warnings.
    pub(crate) gold_line: u64,
    /// How many audits per hour a group can carry out; unlimited for groups that are not listed.
    pub capacity: BTreeMap<String, f64>,
    /// The allowed reason codes of findings; any code if empty.
    pub reason_codes: Vec<String>,
    /// The group that remedies what cannot be undone; the audit's own group if `None`.
    pub owner: Option<String>,
    /// How long that group has.
    pub due: Duration,
}

impl Default for Audits {
    fn default() -> Self {
        Self {
            first: 0,
            failed: 0,
            not_executed: 0.0,
            twice: 0.0,
            gold: 0.0,
            gold_line: 0,
            capacity: BTreeMap::new(),
            reason_codes: vec![],
            owner: None,
            due: Duration::from_secs(7 * 86_400),
        }
    }
}
