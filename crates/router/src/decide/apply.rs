//! One decision on one locked action.

use countersign_core::{
    action::State,
    approval::{ApprovalSpec, Request, RequestEvent, RequestState},
    digest::{tagged, untagged},
    message::{Decision, DecisionData, Failure},
    refusal::{Code, Complaint},
    transition::{Event, Illegal, transition},
};
use countersign_policy::Member;
use countersign_store::{
    actions::{ActionRecord, ApprovalRecord},
    approvals::DecisionRow,
};

use super::edit::{edit, edited};
use crate::{
    eligibility::Eligibility,
    evaluation::{Evaluated, EvaluationContext},
    limit_usage::LimitUsage,
    reevaluate,
    write_set::WriteSet,
};

/// The longest reason, in bytes.
const REASON_MAX: usize = 4_000;

/// Who said what, in which event.
pub(super) struct Said<'a> {
    pub(super) decision: &'a DecisionData,
    pub(super) reviewer: &'a Member,
    pub(super) event: &'a str,
    /// The key that signed it.
    pub(super) kid: &'a str,
    /// What an edit then adds to limits.
    pub(super) limit_usage: &'a LimitUsage,
}

/// When a decision that counts was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Now,
    Before,
}

/// Applies one decision to a locked action, or says why it does not count.
pub(super) fn apply(
    context: &EvaluationContext<'_>,
    write_set: &mut WriteSet,
    record: &mut ActionRecord,
    said: &Said<'_>,
) -> Result<Applied, Complaint> {
    let decision = said.decision;
    let approval = about(record, decision)?;
    if record.status.state != State::PendingApproval {
        return match repeated(&approval.request, said) {
            true => Ok(Applied::Before),
            false => Err((Code::NotOpen, format!("the action is {}", record.status.state))),
        };
    }
    look_again(context, write_set, record, said.limit_usage)?;
    let proposal =
        reevaluate::proposal_of(context, record).map_err(|refusal| (refusal.code, refusal.message))?;
    let tools = &context.governed.configuration.tools;
    let tool = tools.get(&proposal.tool).ok_or((Code::UnknownTool, "the tool is gone".to_owned()))?;
    let agent = record.agent.clone();
    let eligibility = Eligibility::new(context, &agent, &proposal, tool);
    let approval = about(record, decision)?;
    eligibility.may(said.reviewer, &approval.request)?;
    reasons(decision, &approval.request.spec)?;
    let repeated = repeated(&approval.request, said);
    let voted = vote(context, approval, said, &eligibility)?;
    let edited = match decision.decision {
        Decision::Edit => Some(edited(context, record, said, tool)?),
        _ => None,
    };
    let state = voted.request.state;
    record_vote(context, write_set, record, said, voted);
    match (state, edited) {
        (RequestState::Approved, _) => approve(context, write_set, record)?,
        (RequestState::Rejected, _) => reject(context, write_set, record, decision)?,
        (RequestState::Closed, Some(edited)) => edit(context, write_set, record, said, edited),
        _ => {}
    }
    // The same again write_set nothing, unless what was missing then is there now.
    let same = repeated && record.status.state == State::PendingApproval;
    Ok(if same { Applied::Before } else { Applied::Now })
}

/// The request that a decision is about.
fn about<'r>(record: &'r ActionRecord, decision: &DecisionData) -> Result<&'r ApprovalRecord, Complaint> {
    let named = record.approval.as_ref().filter(|approval| approval.id == decision.approval);
    named.ok_or_else(|| (Code::Superseded, "another request has taken this one's place".into()))
}

/// The same decision by the same person again.
fn repeated(request: &Request, said: &Said<'_>) -> bool {
    request.votes.get(&said.reviewer.id) == Some(&said.decision.decision)
        && tagged(&request.digest) == said.decision.digest
}

/// Judges the action under the generation in force before anybody decides it: policy may have ended it, or ask more.
fn look_again(
    context: &EvaluationContext<'_>,
    write_set: &mut WriteSet,
    record: &mut ActionRecord,
    limit_usage: &LimitUsage,
) -> Result<(), Complaint> {
    // Under the policy that has counted it, it has its place in the limits already.
    let new = record.status.generation != context.governed.generation;
    let context = EvaluationContext { limit_usage: new.then_some(limit_usage), ..*context };
    let evaluated =
        reevaluate::evaluate(&context, record).map_err(|error| (Code::Illegal, error.to_string()))?;
    let same = reevaluate::same_content(&evaluated, record);
    let code = match evaluated.status.state {
        State::PendingApproval if same => {
            if new {
                reevaluate::apply(write_set, &context, record, evaluated);
            }
            return Ok(());
        }
        State::Expired => Code::Expired,
        State::Denied => Code::DeniedByPolicy,
        _ => Code::Changed,
    };
    reevaluate::apply(write_set, &context, record, evaluated);
    let why = format!("evaluated again when the decision came, the action is {}", record.status.state);
    Err((code, why))
}

fn reasons(decision: &DecisionData, spec: &ApprovalSpec) -> Result<(), Complaint> {
    let reason = decision.reason.as_deref().unwrap_or_default();
    if reason.len() > REASON_MAX {
        return Err((Code::ReasonTooLong, format!("a reason has at most {REASON_MAX} bytes")));
    }
    match (decision.decision, &decision.reason_code) {
        (_, Some(code)) if !spec.reason_codes.contains(code) => {
            Err((Code::ReasonUnknown, "reason_code is none of the request's reason_codes".into()))
        }
        (Decision::Reject, None) if !spec.reason_codes.is_empty() => {
            let why = format!("a rejection needs a reason_code: one of {}", spec.reason_codes.join(", "));
            Err((Code::ReasonMissing, why))
        }
        (Decision::Reject | Decision::Respond, _)
            if reason.trim().is_empty() && spec.reason_codes.is_empty() =>
        {
            Err((Code::ReasonMissing, "it needs a reason: the agent and the auditors read it".into()))
        }
        (Decision::Respond, _) if reason.trim().is_empty() => {
            Err((Code::ReasonMissing, "it needs a reason: the message to the agent".into()))
        }
        _ => Ok(()),
    }
}

/// The request with the vote. What a revoked key has signed for the same person binds them no longer.
fn vote(
    context: &EvaluationContext<'_>,
    approval: &ApprovalRecord,
    said: &Said<'_>,
    eligibility: &Eligibility<'_>,
) -> Result<ApprovalRecord, Complaint> {
    let decision = said.decision;
    let digest =
        untagged(&decision.digest).ok_or_else(|| (Code::DigestMismatch, "the digest is none".to_owned()))?;
    let mut voted = approval.clone();
    let reviewer = said.reviewer.id.clone();
    if voted.keys.get(&reviewer).is_some_and(|kids| !eligibility.holds(said.reviewer, kids)) {
        voted.request.votes.remove(&reviewer);
        voted.keys.remove(&reviewer);
    }
    voted.keys.entry(reviewer.clone()).or_default().insert(said.kid.into());
    let spec = voted.request.spec.clone();
    let event = RequestEvent::Decided { reviewer, decision: decision.decision, digest };
    voted
        .request
        .apply(event, context.now, &eligibility.counting(&spec, &voted.keys))
        .map_err(|refused| (refused.code(), refused.to_string()))?;
    Ok(voted)
}

/// Writes a vote, and where the request stands with it.
fn record_vote(
    context: &EvaluationContext<'_>,
    write_set: &mut WriteSet,
    record: &mut ActionRecord,
    said: &Said<'_>,
    voted: ApprovalRecord,
) {
    let decision = said.decision;
    write_set.decisions.push(DecisionRow {
        action: record.id,
        digest: voted.request.digest.to_vec(),
        reviewer: said.reviewer.id.clone(),
        decision: decision.decision,
        kid: said.kid.into(),
        approval: voted.id,
        event: said.event.into(),
        reason_code: decision.reason_code.clone(),
        reason: decision.reason.as_ref().map(|reason| reason.replace('\0', "\u{fffd}")),
        decided_at: context.now,
    });
    if voted.request.state != RequestState::Open {
        write_set.request(reevaluate::row(record, &voted, &voted.request));
    }
    record.approval = Some(voted);
}

fn approve(
    context: &EvaluationContext<'_>,
    write_set: &mut WriteSet,
    record: &mut ActionRecord,
) -> Result<(), Complaint> {
    let illegal = |error: Illegal| (Code::Illegal, error.to_string());
    let mut evaluated = reevaluate::evaluate(context, record).map_err(illegal)?;
    let (state, effects) =
        transition(&reevaluate::standing(record), Event::Approved { held: evaluated.held }, context.now)
            .map_err(illegal)?;
    let voters = record.approval.iter().flat_map(|approval| approval.request.voters(Decision::Approve));
    evaluated.status.approvers = voters.map(str::to_owned).collect();
    evaluated.status.state = state;
    evaluated.status.approved = true;
    evaluated.effects = effects;
    settle(context, write_set, record, evaluated);
    Ok(())
}

fn reject(
    context: &EvaluationContext<'_>,
    write_set: &mut WriteSet,
    record: &mut ActionRecord,
    decision: &DecisionData,
) -> Result<(), Complaint> {
    let (state, effects) = transition(&reevaluate::standing(record), Event::Rejected, context.now)
        .map_err(|error| (Code::Illegal, error.to_string()))?;
    let mut evaluated = Evaluated::unchanged(&record.status, effects);
    evaluated.status.state = state;
    let code = match (decision.decision, &decision.reason_code) {
        (Decision::Respond, _) => Code::Responded.into(),
        (_, Some(code)) => code.clone(),
        _ => Code::Rejected.into(),
    };
    let message = decision.reason.clone().unwrap_or_default();
    evaluated.failure = Some(Failure { code, message });
    settle(context, write_set, record, evaluated);
    Ok(())
}

/// Writes what a human decided.
fn settle(
    context: &EvaluationContext<'_>,
    write_set: &mut WriteSet,
    record: &mut ActionRecord,
    mut evaluated: Evaluated,
) {
    let mut noted = write_set.evaluated(&reevaluate::subject(context, record), &mut evaluated);
    noted.reevaluation = true;
    write_set.note(record.id, noted);
    record.status = evaluated.status;
    write_set.set_status(record.id, record.status.clone(), true);
}
