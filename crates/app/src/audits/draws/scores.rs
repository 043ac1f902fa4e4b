//! Evaluates the scores of drawn actions again.

use std::collections::HashMap;

use chrono::DateTime;
use countersign_core::{ids::ActionId, proposal::Proposal};
use countersign_policy::{Configuration, Facts};
use countersign_store::{
    Transaction,
    actions::{self, LoadDepth},
    sampling::StoredDraw,
};

use crate::AppError;

/// The proposals of those that have scores, as they were to be executed. What has been erased is left out.
pub(super) async fn proposals(
    tx: &Transaction,
    page: &[StoredDraw],
) -> Result<HashMap<ActionId, Proposal>, AppError> {
    let scored: Vec<ActionId> =
        page.iter().filter(|stored| stored.score.is_some()).map(|stored| stored.action).collect();
    if scored.is_empty() {
        return Ok(HashMap::new());
    }
    let records = actions::load(tx, &scored, LoadDepth::Bodies).await?;
    Ok(records.iter().filter_map(|record| Some((record.id, record.proposal().ok()?))).collect())
}

/// Whether this configuration gives a proposal the score that is stored.
pub(super) fn agrees(configuration: &Configuration, stored: &StoredDraw, proposal: &Proposal) -> bool {
    let Some(tool) = configuration.tools.get(&proposal.tool) else { return false };
    // No score reads the time.
    let now = DateTime::UNIX_EPOCH;
    let facts = Facts { action: &proposal.action, agent: &proposal.agent, tool, now };
    configuration.policy.score(&stored.rule, &facts).map(|score| score.value) == stored.score
}
