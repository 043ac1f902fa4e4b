//! Escalation as evidence: the timeline records when another group may decide as well.

use chrono::{DateTime, Utc};
use countersign_core::{
    approval::RequestState,
    evidence::{ApprovalEscalated, Event},
};
use countersign_store::{actions::ActionRecord, evidence::Evidence};

use crate::{reevaluate, write_set::WriteSet};

/// Records the groups to which an open request of a locked action has escalated by `now`, each once. Returns whether
/// there are new ones: then the request is published to them.
pub(crate) fn note(write_set: &mut WriteSet, record: &mut ActionRecord, now: DateTime<Utc>) -> bool {
    let Some(approval) = record.approval.as_mut() else { return false };
    let request = &approval.request;
    if request.state != RequestState::Open || request.expires_at <= now {
        return false;
    }
    let due = request.spec.escalated(request.opened_at, now).map(|step| step.also.clone());
    let new: Vec<String> = due.filter(|group| !approval.escalated.contains(group)).collect();
    if new.is_empty() {
        return false;
    }
    for group in new {
        let noted = ApprovalEscalated { approval: approval.id, group: group.clone() };
        write_set.evidence.push(Evidence::of(record.id, Event::ApprovalEscalated(noted)));
        approval.escalated.push(group);
    }
    let approval = approval.clone();
    write_set.request(reevaluate::row(record, &approval, &approval.request));
    true
}
