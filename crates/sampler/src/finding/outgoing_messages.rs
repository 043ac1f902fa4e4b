//! The messages that follow from stored audits.

use std::collections::BTreeSet;

use countersign_broker::publisher::Outgoing;
use countersign_core::{
    ids::ActionId,
    message::{Command, FeedbackKind, Finding},
};
use countersign_policy::Configuration;
use countersign_runtime::messages::{self, FeedbackDetail};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    audits::{self, AuditRecord},
    compensations,
};

/// Reads the audits as this transaction leaves them and returns what follows: a request to another auditor, feedback to
/// the agent, the outcome of what was in doubt, a requested compensation. Repeated findings get the same messages.
pub(super) async fn of_audits(
    tx: &Transaction,
    configuration: &Configuration,
    concerned: &BTreeSet<ActionId>,
    repeated: &BTreeSet<ActionId>,
) -> Result<Vec<Outgoing>, StoreError> {
    let ids: Vec<ActionId> = concerned.iter().copied().collect();
    let records = actions::load(tx, &ids, LoadDepth::Bodies).await?;
    let audits = audits::of(tx, &ids).await?;
    let mut outgoing = Vec::new();
    for record in &records {
        let resolved = record.outcome.as_ref().is_some_and(|outcome| outcome.seq > 1);
        if resolved || repeated.contains(&record.id) {
            outgoing.extend(messages::outcome(record));
        }
        for audit in audits.iter().filter(|audit| audit.action == record.id) {
            match audit.open {
                true => outgoing.extend(messages::audit_request(configuration, &audit.request(), record)),
                false => outgoing.extend(feedback(tx, audit, record).await?),
            }
        }
    }
    let proposed = compensations::proposed(tx, &ids).await?;
    let now = records.first().map(|record| record.now).unwrap_or_default();
    for (action, _) in compensations::requested(tx, &ids).await? {
        if !proposed.iter().any(|(undone, _)| *undone == action) {
            outgoing.push(messages::command("router", Command::Compensate { action }, now));
        }
    }
    Ok(outgoing)
}

/// The feedback of a finding of `wrong`: that of the last auditor who found so.
async fn feedback(
    tx: &Transaction,
    audit: &AuditRecord,
    record: &ActionRecord,
) -> Result<Option<Outgoing>, StoreError> {
    // Where nothing was executed it was the refusal that was wrong, and the agent has nothing to learn from it.
    let wrong = audit.settled.filter(|settled| settled.finding == Finding::Wrong);
    let Some(settled) = wrong.filter(|_| record.status.state.executed()) else { return Ok(None) };
    let found = audits::findings(tx, audit.id).await?;
    let wrong = || found.iter().rev().filter(|found| found.opinion.finding == Finding::Wrong);
    let correction = wrong().find_map(|found| found.correction.as_deref());
    let correction = correction.and_then(|correction| serde_json::from_slice(correction).ok());
    let Some(last) = wrong().next() else { return Ok(None) };
    let detail = FeedbackDetail {
        reason_code: last.reason_code.as_deref(),
        rationale: last.reason.as_deref(),
        before: None,
        correction: correction.as_ref(),
        severity: settled.severity,
    };
    Ok(messages::feedback(record, FeedbackKind::Correction, &detail))
}
