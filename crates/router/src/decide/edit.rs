//! Edits: an action is bound to other content, for which a new request is opened.

use countersign_core::{
    action::State,
    digest::{Salt, tagged},
    json::canonical,
    message::{Decision, DecisionData},
    refusal::{Code, Complaint},
};
use countersign_policy::{LimitUse, Tool};
use countersign_store::actions::ActionRecord;

use super::state::{BatchState, SignedDecision};
use crate::{
    context::EvaluationContext,
    eligibility::Eligibility,
    evaluated::Evaluated,
    reevaluate::{self, StoredEvaluation},
};

/// A stored action with a reviewer's arguments, and its evaluation.
pub(super) struct Edit<'a> {
    arguments: Vec<u8>,
    salt: Salt,
    evaluation: StoredEvaluation<'a>,
}

impl<'a> Edit<'a> {
    /// Evaluates a locked action as it would be with the decision's arguments.
    pub(super) fn new(
        context: &EvaluationContext<'a>,
        record: &ActionRecord,
        data: &DecisionData,
    ) -> Result<Self, Complaint> {
        let arguments = data.arguments.as_ref().filter(|arguments| arguments.is_object());
        let arguments = arguments
            .ok_or_else(|| (Code::ArgumentsMissing, "an edit needs `arguments`: an object".to_owned()))?;
        let arguments = canonical(arguments).map_err(|error| (error.code(), error.to_string()))?;
        // A new salt: editing the content back does not revive an earlier approval.
        let salt: Salt = rand::random();
        let evaluation = StoredEvaluation::new(context, &changed(record, &arguments, &salt));
        Ok(Self { arguments, salt, evaluation })
    }

    /// The cumulative limit that the edited action counts against.
    pub(super) fn limit(&self) -> Option<&LimitUse> {
        self.evaluation.limit()
    }
}

fn changed(record: &ActionRecord, arguments: &[u8], salt: &Salt) -> ActionRecord {
    ActionRecord { edited: Some(arguments.to_vec()), salt: salt.to_vec(), ..record.clone() }
}

/// Admits and resolves an edit before it counts: where the schema, the policy or the editor's own authority refuses
/// it, the request stays as it was and nothing is added to a limit.
pub(super) fn resolve(
    state: &mut BatchState<'_>,
    record: &ActionRecord,
    decision: &SignedDecision<'_>,
    edit: &mut Edit<'_>,
    tool: &Tool,
) -> Result<Evaluated, Complaint> {
    let before = edit.limit().map(|limit| state.limit_usage.before(limit, Some(record.id)));
    edit.evaluation.admit(&mut state.limit_usage, record.id);
    let resolved = check(&state.context, record, decision, edit, tool);
    if let Some(before) = before.filter(|_| resolved.is_err()) {
        state.limit_usage.restore(before);
    }
    resolved
}

fn check(
    context: &EvaluationContext<'_>,
    record: &ActionRecord,
    decision: &SignedDecision<'_>,
    edit: &mut Edit<'_>,
    tool: &Tool,
) -> Result<Evaluated, Complaint> {
    let changed = changed(record, &edit.arguments, &edit.salt);
    let evaluated =
        edit.evaluation.resolve(context, &changed).map_err(|error| (Code::Illegal, error.to_string()))?;
    let same =
        evaluated.content.as_ref().is_some_and(|content| Some(&content.bytes) == record.content.as_ref());
    match (evaluated.status.state, &evaluated.failure) {
        (State::PendingApproval, _) if same => {
            return Err((Code::EditSame, "the action has these arguments already".into()));
        }
        (State::PendingApproval, _) => {}
        (_, Some(failure)) => {
            return Err((Code::EditDenied, format!("{}: {}", failure.code, failure.message)));
        }
        (state, None) => {
            return Err((Code::EditDenied, format!("with these arguments it would be {state}")));
        }
    }
    let StoredEvaluation::Evaluated(evaluation) = &edit.evaluation else {
        return Err((Code::Changed, "the action can no longer be evaluated".into()));
    };
    if let Some(approval) = &record.approval {
        Eligibility::new(context, &record.agent, &evaluation.proposal, tool)
            .check(decision.reviewer, &approval.request)?;
    }
    Ok(evaluated)
}

/// Binds the action to the edited content, with a request of its own: earlier approvals no longer count. Returns the
/// editor's approval of that request, if an edit counts as one.
pub(super) fn bind<'a>(
    state: &mut BatchState<'a>,
    record: &mut ActionRecord,
    edit: Edit<'a>,
    evaluated: Evaluated,
) -> Option<DecisionData> {
    record.edited = Some(edit.arguments);
    reevaluate::apply(&mut state.write_set, &state.context, record, evaluated);
    state.evaluations.insert(record.id, edit.evaluation);
    let approval = record.approval.as_ref().filter(|approval| approval.request.spec.edit_counts)?;
    Some(DecisionData {
        approval: approval.id,
        digest: tagged(&approval.request.digest),
        decision: Decision::Approve,
        reason_code: None,
        reason: None,
        arguments: None,
    })
}
