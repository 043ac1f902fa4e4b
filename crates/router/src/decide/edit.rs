//! Edits: an action bound to other content, which is asked about anew.

use std::collections::HashMap;

use countersign_core::{
    action::State,
    digest::{Salt, tagged},
    ids::{ActionId, ApprovalId},
    json::canonical,
    message::{Decision, DecisionData},
    proposal::Proposal,
    refusal::{Code, Complaint},
};
use countersign_policy::Tool;
use countersign_store::actions::ActionRecord;

use super::apply::{Said, apply};
use crate::{
    again,
    change::Changes,
    entitled::Bench,
    judge::{Court, Judged},
};

/// The proposals whose amounts may be counted anew: as they would be edited, and those that another generation has
/// judged.
pub(super) fn proposals(
    court: &Court<'_>,
    said: &[&DecisionData],
    about: &HashMap<ApprovalId, ActionId>,
    records: &HashMap<ActionId, ActionRecord>,
) -> Vec<Proposal> {
    let edited = |data: &&DecisionData| {
        let mut proposal = again::proposal_of(court, records.get(about.get(&data.approval)?)?).ok()?;
        proposal.action["arguments"] = data.arguments.clone()?;
        Some(proposal)
    };
    let edits = said.iter().filter(|data| data.decision == Decision::Edit).filter_map(edited);
    let older = records.values().filter(|record| record.ruling.generation != court.governed.generation);
    edits.chain(older.filter_map(|record| again::proposal_of(court, record).ok())).collect()
}

/// The action with changed arguments, and what policy says of it.
pub(super) struct Edited {
    arguments: Vec<u8>,
    judged: Judged,
}

/// An edit is judged before it counts: what the schema, the policy or the editor's own authority refuses leaves the
/// request as it was, and adds to no limit.
pub(super) fn edited(
    court: &Court<'_>,
    record: &ActionRecord,
    said: &Said<'_>,
    tool: &Tool,
) -> Result<Edited, Complaint> {
    let mark = said.tally.mark();
    let counting = Court { tally: Some(said.tally), ..*court };
    attempt(&counting, record, said, tool).inspect_err(|_| said.tally.back_to(mark))
}

fn attempt(
    court: &Court<'_>,
    record: &ActionRecord,
    said: &Said<'_>,
    tool: &Tool,
) -> Result<Edited, Complaint> {
    let arguments = said.decision.arguments.as_ref().filter(|arguments| arguments.is_object());
    let arguments = arguments
        .ok_or_else(|| (Code::ArgumentsMissing, "an edit needs `arguments`: an object".to_owned()))?;
    let arguments = canonical(arguments).map_err(|error| (error.code(), error.to_string()))?;
    let mut changed = record.clone();
    changed.edited = Some(arguments.clone());
    // A salt of its own: edited back, it is not what was approved before.
    changed.salt = rand::random::<Salt>().to_vec();
    let judged = again::judge(court, &changed).map_err(|error| (Code::Illegal, error.to_string()))?;
    let same = judged.content.as_ref().is_some_and(|content| Some(&content.bytes) == record.content.as_ref());
    match (judged.ruling.state, &judged.failure) {
        (State::PendingApproval, _) if same => {
            return Err((Code::EditSame, "these are the arguments that it has already".into()));
        }
        (State::PendingApproval, _) => {}
        (_, Some(failure)) => {
            return Err((Code::EditDenied, format!("{}: {}", failure.code, failure.message)));
        }
        (state, None) => {
            return Err((Code::EditDenied, format!("with these arguments it would be {state}")));
        }
    }
    let proposal = again::proposal_of(court, &changed).map_err(|refusal| (refusal.code, refusal.message))?;
    if let Some(approval) = &record.approval {
        Bench::new(court, &record.agent, &proposal, tool).may(said.reviewer, &approval.request)?;
    }
    Ok(Edited { arguments, judged })
}

/// Another content takes the place of what was asked about, and with it another request: what was approved before
/// falls away. The editor's approval counts if the rule says so, and where policy still lets them approve.
pub(super) fn edit(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    said: &Said<'_>,
    edited: Edited,
) {
    record.edited = Some(edited.arguments);
    again::apply(changes, court, record, edited.judged);
    let Some(approval) = record.approval.as_ref().filter(|approval| approval.request.spec.edit_counts) else {
        return;
    };
    let approves = DecisionData {
        approval: approval.id,
        digest: tagged(&approval.request.digest),
        decision: Decision::Approve,
        reason_code: None,
        reason: None,
        arguments: None,
    };
    if let Err((code, why)) = apply(court, changes, record, &Said { decision: &approves, ..*said }) {
        tracing::info!(action = %record.reference, %code, why, "the edit stands, and is not its editor's approval");
    }
}
