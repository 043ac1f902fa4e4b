//! Edits: an action bound to other content, which is asked about anew.

use std::collections::HashMap;

use countersign_core::{
    action::State,
    digest::tagged,
    ids::{ActionId, ApprovalId},
    json::canonical,
    message::{Decision, DecisionData},
    proposal::Proposal,
    refusal::{Code, Complaint},
};
use countersign_store::actions::ActionRecord;

use super::apply::{Said, apply};
use crate::{
    again,
    change::Changes,
    judge::{Court, Judged},
};

/// The proposals as they would be edited: what they then add to a limit is counted anew.
pub(super) fn proposals(
    court: &Court<'_>,
    said: &[&DecisionData],
    about: &HashMap<ApprovalId, ActionId>,
    records: &HashMap<ActionId, ActionRecord>,
) -> Vec<(ActionId, Proposal)> {
    let edited = |data: &&DecisionData| {
        let record = records.get(about.get(&data.approval)?)?;
        let mut proposal = again::proposal_of(court, record).ok()?;
        proposal.action["arguments"] = data.arguments.clone()?;
        Some((record.id, proposal))
    };
    said.iter().filter(|data| data.decision == Decision::Edit).filter_map(edited).collect()
}

/// The action with changed arguments, and what policy says of it.
pub(super) struct Edited {
    arguments: Vec<u8>,
    judged: Judged,
}

/// An edit is judged before it counts: what the schema or policy refuses leaves the request as it was.
pub(super) fn edited(
    court: &Court<'_>,
    record: &ActionRecord,
    decision: &DecisionData,
) -> Result<Edited, Complaint> {
    let arguments = decision
        .arguments
        .as_ref()
        .filter(|arguments| arguments.is_object())
        .ok_or_else(|| (Code::ArgumentsMissing, "an edit needs `arguments`: an object".to_owned()))?;
    let arguments = canonical(arguments).map_err(|error| (error.code(), error.to_string()))?;
    let mut changed = record.clone();
    changed.edited = Some(arguments.clone());
    let judged = again::judge(court, &changed).map_err(|error| (Code::Illegal, error.to_string()))?;
    if again::same_content(&judged, record) && judged.ruling.state == State::PendingApproval {
        return Err((Code::EditSame, "these are the arguments that it has already".into()));
    }
    match (judged.ruling.state, &judged.failure) {
        (State::PendingApproval, _) => Ok(Edited { arguments, judged }),
        (_, Some(failure)) => Err((Code::EditDenied, format!("{}: {}", failure.code, failure.message))),
        (state, None) => Err((Code::EditDenied, format!("with these arguments it would be {state}"))),
    }
}

/// Another content takes the place of what was asked about, and with it another request: what was approved before
/// falls away. The editor's approval counts if the rule says so.
pub(super) fn edit(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    said: &Said<'_>,
    edited: Edited,
) -> Result<(), Complaint> {
    record.edited = Some(edited.arguments);
    again::apply(changes, court, record, edited.judged);
    let Some(approval) = record.approval.as_ref().filter(|approval| approval.request.spec.edit_counts) else {
        return Ok(());
    };
    let approves = DecisionData {
        approval: approval.id,
        digest: tagged(&approval.request.digest),
        decision: Decision::Approve,
        reason_code: None,
        reason: None,
        arguments: None,
    };
    apply(court, changes, record, &Said { decision: &approves, ..*said }).map(drop)
}
