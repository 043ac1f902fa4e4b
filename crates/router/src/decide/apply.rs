//! One decision on one locked action.

use countersign_core::{
    action::State,
    approval::{ApprovalSpec, Request, RequestEvent, RequestState},
    digest::{tagged, untagged},
    message::{Decision, DecisionData, Failure},
    refusal::{Code, Complaint},
    transition::{Event, Illegal, transition},
};
use countersign_store::{
    actions::{ActionRecord, ApprovalRecord},
    approvals::DecisionRow,
};

use super::{
    edit::{self, Edit},
    state::{BatchState, SignedDecision},
};
use crate::{
    context::EvaluationContext,
    eligibility::Eligibility,
    evaluated::Evaluated,
    reevaluate::{self, StoredEvaluation},
};

/// The longest reason, in bytes.
const REASON_MAX: usize = 4_000;

/// When a decision that counts was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// In this batch.
    Now {
        /// The digest of the edited content, where an edit is its editor's approval as well.
        approves: Option<String>,
    },
    /// Before: this one repeats it.
    Before,
}

/// Applies one decision to a locked action, or returns why it does not count. `edit` is given for a decision that
/// edits.
pub(super) fn apply<'a>(
    state: &mut BatchState<'a>,
    record: &mut ActionRecord,
    decision: &SignedDecision<'_>,
    edit: Option<Result<Edit<'a>, Complaint>>,
) -> Result<Applied, Complaint> {
    let approval = request_of(record, decision.data)?;
    if record.status.state != State::PendingApproval {
        return match repeated(&approval.request, decision) {
            true => Ok(Applied::Before),
            false => Err((Code::NotOpen, format!("the action is {}", record.status.state))),
        };
    }
    reevaluate(state, record)?;
    let Some(StoredEvaluation::Evaluated(evaluation)) = state.evaluations.get(&record.id) else {
        return Err((Code::Changed, "the action can no longer be evaluated".into()));
    };
    let tool = evaluation
        .result
        .as_ref()
        .map_err(|_| (Code::UnknownTool, "the tool is no longer in the registry".to_owned()))?
        .tool;
    let eligibility = Eligibility::new(&state.context, &evaluation.agent, &evaluation.proposal, tool);
    let approval = request_of(record, decision.data)?;
    eligibility.check(decision.reviewer, &approval.request)?;
    reasons(decision.data, &approval.request.spec)?;
    let repeated = repeated(&approval.request, decision);
    let voted = vote(&state.context, approval, decision, &eligibility)?;
    let edited = match decision.data.decision {
        Decision::Edit => {
            let superseded =
                || (Code::Superseded, "the edit was made for an earlier version of the action".into());
            let mut edit = edit.unwrap_or_else(|| Err(superseded()))?;
            let evaluated = edit::resolve(state, record, decision, &mut edit, tool)?;
            Some((edit, evaluated))
        }
        _ => None,
    };
    let request = voted.request.state;
    record_vote(state, record, decision, voted);
    let mut approves = None;
    match (request, edited) {
        (RequestState::Approved, _) => approve(state, record)?,
        (RequestState::Rejected, _) => reject(state, record, decision.data)?,
        (RequestState::Closed, Some((edit, evaluated))) => {
            if let Some(approval) = edit::bind(state, record, edit, evaluated) {
                let counts = approve_edit(state, record, &SignedDecision { data: &approval, ..*decision });
                approves = counts.then_some(approval.digest);
            }
        }
        _ => {}
    }
    // A repeated vote changes nothing, unless it completes the request now.
    let same = repeated && record.status.state == State::PendingApproval;
    Ok(if same { Applied::Before } else { Applied::Now { approves } })
}

/// Counts an edit as its editor's approval, where the policy still lets them approve. Returns whether it counts.
fn approve_edit(
    state: &mut BatchState<'_>,
    record: &mut ActionRecord,
    approval: &SignedDecision<'_>,
) -> bool {
    let applied = apply(state, record, approval, None);
    if let Err((code, why)) = &applied {
        tracing::info!(action = %record.reference, %code, why, "the edit stands, but is not its editor's approval");
    }
    applied.is_ok()
}

/// The request that a decision is about.
fn request_of<'r>(
    record: &'r ActionRecord,
    decision: &DecisionData,
) -> Result<&'r ApprovalRecord, Complaint> {
    let named = record.approval.as_ref().filter(|approval| approval.id == decision.approval);
    named.ok_or_else(|| (Code::Superseded, "another request has replaced this one".into()))
}

/// Whether the same person has made the same decision before.
fn repeated(request: &Request, decision: &SignedDecision<'_>) -> bool {
    let before = request.votes.get(&decision.reviewer.id);
    before.is_some_and(|before| before.decision == decision.data.decision)
        && tagged(&request.digest) == decision.data.digest
}

/// Resolves the action under the active generation before anybody decides it: the policy may have ended it, or require
/// more. It is evaluated once, however many decisions the batch has about it.
fn reevaluate(state: &mut BatchState<'_>, record: &mut ActionRecord) -> Result<(), Complaint> {
    let context = state.context;
    let evaluation =
        state.evaluations.entry(record.id).or_insert_with(|| StoredEvaluation::new(&context, record));
    // Evaluated under this generation, it has already been counted.
    let new = record.status.generation != context.governed.generation;
    if new {
        evaluation.admit(&mut state.limit_usage, record.id);
    }
    let evaluated =
        evaluation.resolve(&context, record).map_err(|error| (Code::Illegal, error.to_string()))?;
    let same = reevaluate::same_content(&evaluated, record);
    let code = match evaluated.status.state {
        State::PendingApproval if same => {
            if new {
                reevaluate::apply(&mut state.write_set, &context, record, evaluated);
            }
            return Ok(());
        }
        State::Expired => Code::Expired,
        State::Denied => Code::DeniedByPolicy,
        _ => Code::Changed,
    };
    reevaluate::apply(&mut state.write_set, &context, record, evaluated);
    let why =
        format!("the action was evaluated again before this decision, and is now {}", record.status.state);
    Err((code, why))
}

fn reasons(decision: &DecisionData, spec: &ApprovalSpec) -> Result<(), Complaint> {
    let reason = decision.reason.as_deref().unwrap_or_default();
    if reason.len() > REASON_MAX {
        return Err((Code::ReasonTooLong, format!("a reason has at most {REASON_MAX} bytes")));
    }
    match (decision.decision, &decision.reason_code) {
        (_, Some(code)) if !spec.reason_codes.contains(code) => {
            Err((Code::ReasonUnknown, "reason_code is not one of the request's reason_codes".into()))
        }
        (Decision::Reject, None) if !spec.reason_codes.is_empty() => {
            let why = format!("a rejection needs a reason_code: one of {}", spec.reason_codes.join(", "));
            Err((Code::ReasonMissing, why))
        }
        (Decision::Reject | Decision::Respond, _)
            if reason.trim().is_empty() && spec.reason_codes.is_empty() =>
        {
            Err((Code::ReasonMissing, "give a reason: the agent and the auditors read it".into()))
        }
        (Decision::Respond, _) if reason.trim().is_empty() => {
            Err((Code::ReasonMissing, "give a reason: it is the message to the agent".into()))
        }
        _ => Ok(()),
    }
}

/// The request with the vote, and the keys that have signed what counts.
fn vote(
    context: &EvaluationContext<'_>,
    approval: &ApprovalRecord,
    decision: &SignedDecision<'_>,
    eligibility: &Eligibility<'_>,
) -> Result<ApprovalRecord, Complaint> {
    let digest = untagged(&decision.data.digest)
        .ok_or_else(|| (Code::DigestMismatch, "the digest is malformed".to_owned()))?;
    let mut voted = approval.clone();
    let (reviewer, signed_at) = (decision.reviewer.id.clone(), decision.signed_at);
    let kids = voted.keys.entry(reviewer.clone()).or_default();
    match voted.request.votes.get(&reviewer) {
        // A repetition that was signed before the decision that counts: its key vouches for nothing newer.
        Some(before) if before.decision == decision.data.decision && signed_at < before.signed_at => {}
        Some(before) if before.decision != decision.data.decision => *kids = [decision.kid.into()].into(),
        _ => {
            kids.insert(decision.kid.into());
        }
    }
    let spec = voted.request.spec.clone();
    let directory = &context.governed.configuration.directory;
    let event = RequestEvent::Decided { reviewer, decision: decision.data.decision, digest, signed_at };
    voted
        .request
        .apply(event, context.now, directory, &eligibility.counting(&spec, &voted.keys))
        .map_err(|refused| (refused.code(), refused.to_string()))?;
    Ok(voted)
}

/// Writes a vote and the resulting state of the request.
fn record_vote(
    state: &mut BatchState<'_>,
    record: &mut ActionRecord,
    decision: &SignedDecision<'_>,
    voted: ApprovalRecord,
) {
    state.write_set.decisions.push(DecisionRow {
        action: record.id,
        digest: voted.request.digest.to_vec(),
        reviewer: decision.reviewer.id.clone(),
        decision: decision.data.decision,
        kid: decision.kid.into(),
        signed_at: decision.signed_at,
        approval: voted.id,
        event: decision.event.into(),
        reason_code: decision.data.reason_code.clone(),
        reason: decision.data.reason.as_ref().map(|reason| reason.replace('\0', "\u{fffd}")),
        decided_at: state.context.now,
    });
    if voted.request.state != RequestState::Open {
        state.write_set.request(reevaluate::row(record, &voted, &voted.request));
    }
    record.approval = Some(voted);
}

/// Resolves the action again, now with the vote that approves it, on the evaluation made in this transaction.
fn approve(state: &mut BatchState<'_>, record: &mut ActionRecord) -> Result<(), Complaint> {
    let illegal = |error: Illegal| (Code::Illegal, error.to_string());
    let context = state.context;
    let evaluation =
        state.evaluations.entry(record.id).or_insert_with(|| StoredEvaluation::new(&context, record));
    let mut evaluated = evaluation.resolve(&context, record).map_err(illegal)?;
    let (now, effects) =
        transition(&reevaluate::standing(record), Event::Approved { held: evaluated.held }, context.now)
            .map_err(illegal)?;
    let requests = record.approval.iter().map(|approval| &approval.request);
    let directory = &context.governed.configuration.directory;
    let approvers = requests.flat_map(|request| request.approvers(&request.spec, directory));
    evaluated.status.approvers = approvers.map(str::to_owned).collect();
    evaluated.status.state = now;
    evaluated.status.approved = true;
    evaluated.effects = effects;
    settle(state, record, evaluated);
    Ok(())
}

fn reject(
    state: &mut BatchState<'_>,
    record: &mut ActionRecord,
    decision: &DecisionData,
) -> Result<(), Complaint> {
    let (rejected, effects) = transition(&reevaluate::standing(record), Event::Rejected, state.context.now)
        .map_err(|error| (Code::Illegal, error.to_string()))?;
    let mut evaluated = Evaluated::unchanged(&record.status, effects);
    evaluated.status.state = rejected;
    let code = match (decision.decision, &decision.reason_code) {
        (Decision::Respond, _) => Code::Responded.into(),
        (_, Some(code)) => code.clone(),
        _ => Code::Rejected.into(),
    };
    let message = decision.reason.clone().unwrap_or_default();
    evaluated.failure = Some(Failure::new(code, message));
    settle(state, record, evaluated);
    Ok(())
}

/// Writes what a human decided.
fn settle(state: &mut BatchState<'_>, record: &mut ActionRecord, mut evaluated: Evaluated) {
    let BatchState { context, write_set, .. } = state;
    let mut noted = write_set.evaluated(&reevaluate::subject(context, record), &mut evaluated);
    noted.reevaluation = true;
    write_set.note(record.id, noted);
    record.status = evaluated.status;
    write_set.set_status(record.id, record.status.clone(), true);
}
