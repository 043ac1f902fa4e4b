//! Judging a stored action again: on a new generation, at a decision, when a permit stayed unclaimed.

use chrono::TimeDelta;
use countersign_core::{
    action::State,
    config::{ApprovalSpec, Verdict},
    digest::Salt,
    message::Failure,
    permit::Permit,
    proposal,
    transition::{Effect, Event, Illegal, Standing, transition},
};
use countersign_store::{actions::ActionRecord, approvals::Closed, evidence::Evidence};

use crate::{
    change::{Changes, Subject},
    judge::{Court, Judged},
};

/// Where a stored action stands.
pub(crate) fn standing(record: &ActionRecord) -> Standing {
    Standing {
        state: record.ruling.state,
        approved: record.ruling.approved,
        expires_at: record.expires_at,
        approval_expires_at: record.approval.as_ref().map(|approval| approval.expires_at),
    }
}

/// Judges a locked action, read with its body, as if it had just come in, keeping what a human has approved.
pub(crate) fn judge(court: &Court<'_>, record: &ActionRecord) -> Result<Judged, Illegal> {
    let body = record.body.as_deref().unwrap_or_default();
    match proposal::decode(body, court.limits.message_bytes) {
        Ok(proposal) => {
            let salt: Salt = record.salt.as_slice().try_into().unwrap_or_default();
            let mut judged = with_approval(court, record, |standing| {
                court.judge(&proposal, &record.agent, &salt, standing, Some(&record.digest))
            })?;
            keep_asking(&mut judged, record, court);
            if judged.ruling.approved {
                judged.ruling.approvers = record.ruling.approvers.clone();
            }
            Ok(judged)
        }
        Err(refusal) => {
            let failure = Failure { code: refusal.code.into(), message: refusal.message };
            court.refuse(standing(record), failure)
        }
    }
}

/// Judges with the approval that was given, and without it if another group is asked now.
fn with_approval(
    court: &Court<'_>,
    record: &ActionRecord,
    judge: impl Fn(Standing) -> Result<Judged, Illegal>,
) -> Result<Judged, Illegal> {
    let mut standing = standing(record);
    if record.interrupted {
        standing.state = State::Authorised;
    }
    let judged = judge(standing)?;
    let approved_by = record.approval.as_ref().map(|approval| &approval.group);
    let asks = judged.approval.as_ref().filter(|_| judged.ruling.verdict == Verdict::RequireApproval);
    if judged.ruling.approved && asks.is_some_and(|spec| approved_by != Some(&spec.group)) {
        tracing::info!(action = %record.reference, generation = court.governed.generation, "another group is asked");
        return judge(Standing { approved: false, ..standing });
    }
    Ok(judged)
}

/// Whether the action is still bound to the content that was stored before.
pub(crate) fn same_content(judged: &Judged, record: &ActionRecord) -> bool {
    judged.content.as_ref().is_none_or(|content| content.digest.as_slice() == record.digest)
}

/// A pending action stays pending under the strictest of both policies. The open request is kept while it
/// asks the same group about the same content; otherwise a new one takes its place.
fn keep_asking(judged: &mut Judged, record: &ActionRecord, court: &Court<'_>) {
    let (true, Some(open)) = (record.ruling.state == State::PendingApproval, &record.approval) else {
        return;
    };
    if judged.ruling.state != State::PendingApproval {
        return;
    }
    if judged.ruling.verdict == Verdict::Allow {
        judged.ruling.verdict = record.ruling.verdict;
        judged.ruling.rule.clone_from(&record.ruling.rule);
        judged.rule_text.clone_from(&open.rule_text);
        let left = (open.expires_at - court.now).to_std().unwrap_or_default();
        judged.approval = Some(ApprovalSpec { group: open.group.clone(), expires_after: left });
    }
    let same_group = judged.approval.as_ref().is_some_and(|spec| spec.group == open.group);
    if same_group && same_content(judged, record) {
        judged.effects.retain(|effect| *effect != Effect::OpenApproval);
    }
}

/// Whether the open request was kept: nothing that a reviewer saw has changed.
pub(crate) fn still_asked(judged: &Judged) -> bool {
    judged.ruling.state == State::PendingApproval && !judged.effects.contains(&Effect::OpenApproval)
}

/// Writes a judgement of a stored action into `changes`.
pub(crate) fn apply(
    changes: &mut Changes,
    court: &Court<'_>,
    record: &ActionRecord,
    mut judged: Judged,
    decided: bool,
) {
    let subject = subject(court, record);
    let mut noted = changes.judged(&subject, &mut judged);
    noted["again"] = true.into();
    changes.evidence.push(Evidence::of(record.id, "action.judged", noted));
    let leaves =
        record.ruling.state == State::PendingApproval && judged.ruling.state != State::PendingApproval;
    if leaves && !decided {
        let state = if judged.ruling.state == State::Expired { "expired" } else { "closed" };
        changes.closed.push(Closed { action: record.id, state, by: None, reason: None });
    }
    if let Some(content) = judged.content.as_ref().filter(|_| !same_content(&judged, record)) {
        changes.rebind(record.id, content.bytes.clone(), content.digest);
    }
    changes.rule(record.id, judged.ruling, decided);
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
pub(crate) fn repeat(changes: &mut Changes, court: &Court<'_>, record: &ActionRecord) -> Repeat {
    let body = record.body.as_deref().unwrap_or_default();
    let salt: Salt = record.salt.as_slice().try_into().unwrap_or_default();
    let Ok(proposal) = proposal::decode(body, court.limits.message_bytes) else { return Repeat::Never };
    let judged = with_approval(court, record, |standing| {
        court.judge(&proposal, &record.agent, &salt, standing, Some(&record.digest))
    });
    let Some(mut judged) = judged.ok().filter(|judged| same_content(judged, record)) else {
        return Repeat::Never;
    };
    match judged.ruling.state {
        State::Authorised => {}
        State::Held => return Repeat::Held,
        _ => return Repeat::Never,
    }
    judged.ruling.approvers = record.ruling.approvers.clone();
    let mut noted = changes.judged(&subject(court, record), &mut judged);
    let Ok((state, _)) = transition(&standing(record), Event::Interrupted { idempotent: true }, court.now)
    else {
        return Repeat::Never;
    };
    judged.ruling.state = state;
    noted["state"] = state.as_str().into();
    noted["again"] = true.into();
    changes.evidence.push(Evidence::of(record.id, "action.judged", noted));
    changes.rule(record.id, judged.ruling, false);
    Repeat::Permitted
}

/// What a change is about.
pub(crate) fn subject<'a>(court: &Court<'_>, record: &'a ActionRecord) -> Subject<'a> {
    Subject {
        action: record.id,
        reference: &record.reference,
        expires_at: record.expires_at,
        now: court.now,
        permit_lifetime: TimeDelta::from_std(court.limits.permit_lifetime).unwrap_or(TimeDelta::MAX),
    }
}

/// Whether the permit that is out can still be claimed: then it is sent again, not replaced, so that a long
/// queue before the executors does not make every permit in it void.
pub(crate) fn permit_is_good(court: &Court<'_>, record: &ActionRecord) -> bool {
    let permit: Option<Permit> =
        record.permit_bytes.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    record.ruling.generation == court.governed.generation
        && permit.is_some_and(|permit| permit.expires_at > court.now)
}
