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
    eligibility::Eligibility,
    evaluation::{Evaluated, EvaluationContext},
    reevaluate,
    write_set::WriteSet,
};

/// The proposals resolve_author amounts may be counted anew: as they would be edited, and those that another generation has
/// evaluated.
pub(super) fn proposals(
    context: &EvaluationContext<'_>,
    said: &[&DecisionData],
    about: &HashMap<ApprovalId, ActionId>,
    records: &HashMap<ActionId, ActionRecord>,
) -> Vec<Proposal> {
    let edited = |data: &&DecisionData| {
        let mut proposal = reevaluate::proposal_of(context, records.get(about.get(&data.approval)?)?).ok()?;
        proposal.action["arguments"] = data.arguments.clone()?;
        Some(proposal)
    };
    let edits = said.iter().filter(|data| data.decision == Decision::Edit).filter_map(edited);
    let older = records.values().filter(|record| record.status.generation != context.governed.generation);
    edits.chain(older.filter_map(|record| reevaluate::proposal_of(context, record).ok())).collect()
}

/// The action with changed arguments, and what policy says of it.
pub(super) struct Edited {
    arguments: Vec<u8>,
    evaluated: Evaluated,
}

/// An edit is evaluated before it counts: what the schema, the policy or the editor's own authority refuses leaves the
/// request as it was, and adds to no limit.
pub(super) fn edited(
    context: &EvaluationContext<'_>,
    record: &ActionRecord,
    said: &Said<'_>,
    tool: &Tool,
) -> Result<Edited, Complaint> {
    let mark = said.limit_usage.mark();
    let counting = EvaluationContext { limit_usage: Some(said.limit_usage), ..*context };
    attempt(&counting, record, said, tool).inspect_err(|_| said.limit_usage.back_to(mark))
}

fn attempt(
    context: &EvaluationContext<'_>,
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
    let evaluated =
        reevaluate::evaluate(context, &changed).map_err(|error| (Code::Illegal, error.to_string()))?;
    let same =
        evaluated.content.as_ref().is_some_and(|content| Some(&content.bytes) == record.content.as_ref());
    match (evaluated.status.state, &evaluated.failure) {
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
    let proposal =
        reevaluate::proposal_of(context, &changed).map_err(|refusal| (refusal.code, refusal.message))?;
    if let Some(approval) = &record.approval {
        Eligibility::new(context, &record.agent, &proposal, tool).may(said.reviewer, &approval.request)?;
    }
    Ok(Edited { arguments, evaluated })
}

/// Another content takes the place of what was asked about, and with it another request: what was approved before
/// falls away. The editor's approval counts if the rule says so, and where policy still lets them approve.
pub(super) fn edit(
    context: &EvaluationContext<'_>,
    write_set: &mut WriteSet,
    record: &mut ActionRecord,
    said: &Said<'_>,
    edited: Edited,
) {
    record.edited = Some(edited.arguments);
    reevaluate::apply(write_set, context, record, edited.evaluated);
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
    if let Err((code, why)) = apply(context, write_set, record, &Said { decision: &approves, ..*said }) {
        tracing::info!(action = %record.reference, %code, why, "the edit stands, and is not its editor's approval");
    }
}
