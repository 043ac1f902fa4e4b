//! Judging a stored action again: on a new generation, at a decision, when a permit stayed unclaimed.

use countersign_core::{
    action::State,
    approval::{Request, RequestEvent, RequestState},
    digest::Salt,
    message::Failure,
    permit::Permit,
    proposal::{self, Proposal, Refusal},
    transition::{Effect, Event, Illegal, Standing, transition},
};
use countersign_store::{
    actions::{ActionRecord, ApprovalRecord},
    approvals::ApprovalRow,
};
use serde_json::Value;

use crate::{
    evaluation::{Evaluated, EvaluationContext, cancelled, expired},
    write_set::{Subject, WriteSet},
};

/// Where a stored action stands. What was interrupted is evaluated as if its permit were still out.
pub(crate) fn standing(record: &ActionRecord) -> Standing {
    Standing {
        state: if record.interrupted { State::Authorised } else { record.status.state },
        approved: record.status.approved,
        expires_at: record.expires_at,
        approval_expires_at: record.approval.as_ref().map(|approval| approval.request.expires_at),
    }
}

/// The proposal of a stored action, read with its body, as it is to be executed: with what a reviewer edited.
pub(crate) fn proposal_of(
    context: &EvaluationContext<'_>,
    record: &ActionRecord,
) -> Result<Proposal, Refusal> {
    let body = record.body.as_deref().unwrap_or_default();
    let mut proposal = proposal::decode(body, context.limits.message_bytes)?;
    let edited = record.edited.as_deref().and_then(|edited| serde_json::from_slice::<Value>(edited).ok());
    if let Some(edited) = edited {
        proposal.action["arguments"] = edited.clone();
        proposal.arguments = edited;
    }
    Ok(proposal)
}

/// Judges a locked action, read with its body, as if it had just come in, keeping what a human has approved.
pub(crate) fn evaluate(context: &EvaluationContext<'_>, record: &ActionRecord) -> Result<Evaluated, Illegal> {
    if record.cancelled && !record.interrupted {
        let (state, effects) = transition(&standing(record), Event::Cancelled, context.now)?;
        let mut evaluated = Evaluated::unchanged(&record.status, effects);
        evaluated.status.state = state;
        evaluated.status.permit = None;
        evaluated.failure = Some(if state == State::Expired { expired() } else { cancelled() });
        return Ok(evaluated);
    }
    match proposal_of(context, record) {
        Ok(proposal) => {
            let salt: Salt = record.salt.as_slice().try_into().unwrap_or_default();
            context.evaluate(&proposal, &record.agent, &salt, standing(record), Some(record))
        }
        Err(refusal) => {
            let failure = Failure { code: refusal.code.into(), message: refusal.message };
            context.refuse(standing(record), failure)
        }
    }
}

/// Whether the action is still bound to the content that was stored before.
pub(crate) fn same_content(evaluated: &Evaluated, record: &ActionRecord) -> bool {
    evaluated.content.as_ref().is_none_or(|content| content.digest.as_slice() == record.digest)
}

/// Writes a evaluation of a stored action into `write_set`, and into `record` what is to be stored. An open request
/// that is asked again about the same content stays open and becomes stricter; about another content, another
/// takes its place.
pub(crate) fn apply(
    write_set: &mut WriteSet,
    context: &EvaluationContext<'_>,
    record: &mut ActionRecord,
    mut evaluated: Evaluated,
) {
    if let Some(open) = record.approval.as_ref().filter(|open| open.request.state == RequestState::Open) {
        let asks = evaluated.approval.as_ref().filter(|_| same_content(&evaluated, record));
        let event = match (evaluated.status.state, asks) {
            (State::PendingApproval | State::Rejected, Some(spec)) => RequestEvent::Asked(spec.clone()),
            (State::Expired, _) if open.request.expires_at <= context.now => RequestEvent::Lapsed,
            _ => RequestEvent::Closed,
        };
        let mut approval = open.clone();
        // A request resolve_author time is up has expired, whatever else happens to it.
        let state = approval.request.apply(event, context.now, &|_| None).unwrap_or(approval.request.state);
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

/// A request as a row.
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

/// Brings the record's request up to what is to be stored. Votes on another content fall away.
pub(crate) fn refresh(write_set: &WriteSet, record: &mut ActionRecord) {
    let (Some(row), Ok(digest)) = (write_set.request_of(record.id), record.digest.as_slice().try_into())
    else {
        return;
    };
    let before = record.approval.take().filter(|before| before.request.digest == digest);
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
        },
        escalated: row.escalated.clone(),
        keys,
    });
}

/// Whether an interrupted call is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// A new permit says so.
    Permitted,
    /// An operator's hold covers it: the next sweep asks again.
    Held,
    /// What was permitted before no longer is.
    Never,
}

/// Issues a permit for the repetition of an interrupted call, if the same content would be authorised now.
pub(crate) fn repeat(
    write_set: &mut WriteSet,
    context: &EvaluationContext<'_>,
    record: &ActionRecord,
) -> Repeat {
    let Some(mut evaluated) =
        evaluate(context, record).ok().filter(|evaluated| same_content(evaluated, record))
    else {
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

/// What a write_set is about.
pub(crate) fn subject<'a>(context: &EvaluationContext<'_>, record: &'a ActionRecord) -> Subject<'a> {
    Subject {
        action: record.id,
        reference: &record.reference,
        expires_at: record.expires_at,
        now: context.now,
        permit_lifetime: context.permit_lifetime(),
    }
}

/// Whether the permit that is out can still be claimed: then it is sent reevaluate, not replaced, so that a long
/// queue before the executors does not make every permit in it void.
pub(crate) fn permit_is_good(context: &EvaluationContext<'_>, record: &ActionRecord) -> bool {
    let permit: Option<Permit> =
        record.permit_bytes.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    record.status.generation == context.governed.generation
        && permit.is_some_and(|permit| permit.expires_at > context.now)
}
