//! Remediation tasks: opened by whoever finds out that no tool can undo an action.

use chrono::TimeDelta;
use countersign_core::ids::ActionId;
use countersign_policy::Configuration;
use countersign_store::{StoreError, Transaction, remediations};

/// Opens a task for an action, at most once: for the policy's owner of remediation, else for `group`, which audits the
/// action.
pub async fn open(
    tx: &Transaction,
    configuration: &Configuration,
    action: ActionId,
    group: &str,
    why: &str,
) -> Result<(), StoreError> {
    let audits = configuration.policy.audits();
    let owner = audits.owner.as_deref().unwrap_or(group);
    let due = TimeDelta::from_std(audits.due).unwrap_or(TimeDelta::MAX);
    remediations::open(tx, action, owner, why, due).await
}
