//! Evaluating a stored action again: under a new generation, at a decision, when a permit stayed unclaimed.

use countersign_core::{
    action::State,
    approval::{Request, RequestEvent, RequestState},
    digest::Salt,
    ids::ActionId,
    message::Failure,
    permit::Permit,
    transition::{Effect, Event, Illegal, Standing, transition},
};
use countersign_policy::LimitUse;
use countersign_store::{
    actions::{ActionRecord, ApprovalRecord},
    approvals::ApprovalRow,
};

use crate::{
    context::EvaluationContext,
    evaluated::{Evaluated, cancelled, expired, refuse, resolve},
    evaluation::Evaluation,
    limit_usage::LimitUsage,
    write_set::{Subject, WriteSet},
};

/// The standing of a stored action. An interrupted one is evaluated as if its permit were still unclaimed.
pub(crate) fn standing(record: &ActionRecord) -> Standing {
    Standing {
        state: if record.interrupted { State::Authorised } else { record.status.state },
        approved: record.status.approved,
        expires_at: record.expires_at,
        approval_expires_at: record.approval.as_ref().map(|approval| approval.request.expires_at),
    }
}

/// The evaluation of a stored action, made once in a transaction.
pub(crate) enum StoredEvaluation<'a> {
    /// Its agent has withdrawn it, so the policy is not evaluated.
    Withdrawn,
    /// Its stored proposal can no longer be decoded.
    Refused(Failure),
    /// The policy was evaluated.
    Evaluated(Box<Evaluation<'a>>),
}

impl<'a> StoredEvaluation<'a> {
    /// Evaluates a locked action, read with its body, as it is to be executed: with the arguments of a reviewer's edit.
    pub(crate) fn new(context: &EvaluationContext<'a>, record: &ActionRecord) -> Self {
        if record.cancelled && !record.interrupted {
            return Self::Withdrawn;
        }
        let proposal = match record.proposal() {
            Ok(proposal) => proposal,
            Err(refusal) => {
                return Self::Refused(Failure::new(refusal.code, refusal.message));
            }
        };
        let salt: Salt = record.salt.as_slice().try_into().unwrap_or_default();
        Self::Evaluated(Box::new(Evaluation::new(context, &record.agent, proposal, &salt)))
    }

    /// The cumulative limit that the action counts against.
    pub(crate) fn limit(&self) -> Option<&LimitUse> {
        match self {
            Self::Evaluated(evaluation) => evaluation.limit(),
            Self::Withdrawn | Self::Refused(_) => None,
        }
    }

    /// Counts the action against its limit ([`Evaluation::admit`]).
    pub(crate) fn admit(&mut self, limit_usage: &mut LimitUsage, action: ActionId) {
        if let Self::Evaluated(evaluation) = self {
            evaluation.admit(limit_usage, Some(action));
        }
    }

    /// The action's new status; a human's approval is kept.
    pub(crate) fn resolve(
        &mut self,
        context: &EvaluationContext<'_>,
        record: &ActionRecord,
    ) -> Result<Evaluated, Illegal> {
        match self {
            Self::Withdrawn => withdraw(context, record),
            Self::Refused(failure) => refuse(context, &standing(record), failure.clone()),
            Self::Evaluated(evaluation) => resolve(context, evaluation, standing(record), Some(record)),
        }
    }
}

/// Cancels a stored action, unless it is executing or has ended.
pub(crate) fn withdraw(context: &EvaluationContext<'_>, record: &ActionRecord) -> Result<Evaluated, Illegal> {
    let standing = Standing { state: record.status.state, ..standing(record) };
    let (state, effects) = transition(&standing, Event::Cancelled, context.now)?;
    let mut evaluated = Evaluated::unchanged(&record.status, effects);
    evaluated.status.state = state;
    evaluated.status.permit = None;
    evaluated.failure = Some(if state == State::Expired { expired() } else { cancelled() });
    Ok(evaluated)
}

/// Whether the action is still bound to the stored content.
pub(crate) fn same_content(evaluated: &Evaluated, record: &ActionRecord) -> bool {
    evaluated.content.as_ref().is_none_or(|content| content.digest.as_slice() == record.digest)
}

/// Adds the evaluation of a stored action to `write_set`, and updates `record` to what will be stored. An open request
/// about the same content stays open and becomes stricter; where the content has changed, another request replaces it.
pub(crate) fn apply(
    write_set: &mut WriteSet,
    context: &EvaluationContext<'_>,
    record: &mut ActionRecord,
    mut evaluated: Evaluated,
) {
    if let Some(open) = record.approval.as_ref().filter(|open| open.request.state == RequestState::Open) {
        let spec = evaluated.approval.as_ref().filter(|_| same_content(&evaluated, record));
        let event = match (evaluated.status.state, spec) {
            (State::PendingApproval | State::Rejected, Some(spec)) => RequestEvent::Asked(spec.clone()),
            (State::Expired, _) if open.request.expires_at <= context.now => RequestEvent::Lapsed,
            _ => RequestEvent::Closed,
        };
        let mut approval = open.clone();
        // A request whose deadline has passed is expired, whatever else happens to it.
        let directory = &context.governed.configuration.directory;
        let state = approval.request.apply(event, context.now, directory, &|_| None);
        let state = state.unwrap_or(approval.request.state);
        if state == RequestState::Open {
            evaluated.effects.retain(|effect| *effect != Effect::OpenApproval);
            approval.rule.clone_from(&evaluated.status.rule);
            approval.rule_text.clone_from(&evaluated.rule_text);
        }
        if approval != *open {
            write_set.request(row(record, &approval, &approval.request));
        }
    }
    let mut noted = write_set.evaluated(&subject(context, record), &mut evaluated);
    noted.reevaluation = true;
    write_set.note(record.id, noted);
    if let Some(content) = evaluated.content.as_ref().filter(|_| !same_content(&evaluated, record)) {
        write_set.rebind(record.id, content, record.edited.clone());
        record.salt = content.salt.to_vec();
        record.digest = content.digest.to_vec();
        record.content = Some(content.bytes.clone());
    }
    record.status = evaluated.status;
    write_set.set_status(record.id, record.status.clone(), false);
    refresh(write_set, record);
}

/// An approval request as a row to be stored.
pub(crate) fn row(record: &ActionRecord, approval: &ApprovalRecord, request: &Request) -> ApprovalRow {
    ApprovalRow {
        id: approval.id,
        action: record.id,
        rule: approval.rule.clone(),
        rule_text: approval.rule_text.clone(),
        spec: request.spec.clone(),
        state: request.state,
        opened_at: request.opened_at,
        expires_at: request.expires_at,
        escalated: approval.escalated.clone(),
    }
}

/// Updates the record's request to what will be stored. Votes on other content no longer count.
pub(crate) fn refresh(write_set: &WriteSet, record: &mut ActionRecord) {
    let (Some(row), Ok(digest)) = (write_set.request_of(record.id), record.digest.as_slice().try_into())
    else {
        return;
    };
    let before = record.approval.take();
    // Who has edited the action stays known, whatever its content becomes.
    let editors = before.as_ref().map(|before| before.request.editors.clone()).unwrap_or_default();
    let before = before.filter(|before| before.request.digest == digest);
    let (votes, keys) = before.map(|before| (before.request.votes, before.keys)).unwrap_or_default();
    record.approval = Some(ApprovalRecord {
        id: row.id,
        rule: row.rule.clone(),
        rule_text: row.rule_text.clone(),
        request: Request {
            spec: row.spec.clone(),
            digest,
            opened_at: row.opened_at,
            expires_at: row.expires_at,
            state: row.state,
            votes,
            editors,
        },
        escalated: row.escalated.clone(),
        keys,
    });
}

/// Whether an interrupted call is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// With a new permit.
    Permitted,
    /// Not while an operator's hold covers it; the next sweep tries again.
    Held,
    /// The policy no longer permits it.
    Never,
}

/// Issues a permit to repeat an interrupted call, if the same content would be authorised now.
pub(crate) fn repeat(
    write_set: &mut WriteSet,
    context: &EvaluationContext<'_>,
    record: &ActionRecord,
) -> Repeat {
    let resolved = StoredEvaluation::new(context, record).resolve(context, record).ok();
    let Some(mut evaluated) = resolved.filter(|evaluated| same_content(evaluated, record)) else {
        return Repeat::Never;
    };
    match evaluated.status.state {
        State::Authorised => {}
        State::Held => return Repeat::Held,
        _ => return Repeat::Never,
    }
    let before = Standing { state: record.status.state, ..standing(record) };
    let Ok((state, _)) = transition(&before, Event::Interrupted { idempotent: true }, context.now) else {
        return Repeat::Never;
    };
    let mut noted = write_set.evaluated(&subject(context, record), &mut evaluated);
    evaluated.status.state = state;
    noted.state = state;
    noted.reevaluation = true;
    write_set.note(record.id, noted);
    write_set.set_status(record.id, evaluated.status, false);
    Repeat::Permitted
}

/// A stored action as the subject of a write set.
pub(crate) fn subject<'a>(context: &EvaluationContext<'_>, record: &'a ActionRecord) -> Subject<'a> {
    Subject {
        action: record.id,
        reference: &record.reference,
        expires_at: record.expires_at,
        now: context.now,
        permit_lifetime: context.permit_lifetime(),
    }
}

/// Whether the issued permit can still be claimed: then it is sent once more, not replaced, so that a long queue at
/// the executors does not void every permit in it.
pub(crate) fn is_permit_valid(context: &EvaluationContext<'_>, record: &ActionRecord) -> bool {
    let permit: Option<Permit> =
        record.permit_bytes.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    record.status.generation == context.governed.generation
        && permit.is_some_and(|permit| permit.expires_at > context.now)
}
