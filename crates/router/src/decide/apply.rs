//! One decision on one locked action.

use countersign_core::{
    action::State,
    approval::{ApprovalSpec, RequestEvent, RequestState},
    config::Member,
    digest::{tagged, untagged},
    message::{Decision, DecisionData, Failure},
    refusal::{Code, Complaint},
    transition::{Event, Illegal, transition},
};
use countersign_store::{
    actions::{ActionRecord, ApprovalRecord},
    approvals::DecisionRow,
    evidence::Evidence,
};

use super::edit::{edit, edited};
use crate::{
    again,
    change::Changes,
    entitled::Bench,
    escalation,
    judge::{Court, Judged},
    tally::Tally,
};

/// The longest reason, in bytes.
const REASON_MAX: usize = 4_000;

/// Who said what, in which event.
pub(super) struct Said<'a> {
    pub(super) decision: &'a DecisionData,
    pub(super) reviewer: &'a Member,
    pub(super) event: &'a str,
    /// What an edit then adds to limits.
    pub(super) tally: &'a Tally,
}

/// When a decision that counts was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Now,
    Before,
}

/// Applies one decision to a locked action, or says why it does not count.
pub(super) fn apply(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    said: &Said<'_>,
) -> Result<Applied, Complaint> {
    let decision = said.decision;
    escalation::note(changes, record, court.now);
    let approval = about(record, decision)?;
    if repeated(approval, said) {
        return Ok(Applied::Before);
    }
    if record.ruling.state != State::PendingApproval {
        return Err((Code::NotOpen, format!("the action is {}", record.ruling.state)));
    }
    look_again(court, changes, record)?;
    let proposal = again::proposal_of(court, record).map_err(|refusal| (refusal.code, refusal.message))?;
    let tools = &court.governed.configuration.tools;
    let tool = tools.get(&proposal.tool).ok_or((Code::UnknownTool, "the tool is gone".to_owned()))?;
    let agent = record.agent.clone();
    let bench = Bench::new(court, &agent, &proposal, tool);
    let request = about(record, decision)?.request.clone();
    bench.may(said.reviewer, &request)?;
    reasons(decision, &request.spec)?;
    let edited = match decision.decision {
        Decision::Edit => {
            let counting = Court { tally: Some(said.tally), ..*court };
            Some(edited(&counting, record, decision)?)
        }
        _ => None,
    };
    let state = vote(court, changes, record, said, &bench)?;
    match (state, edited) {
        (RequestState::Approved, _) => approve(court, changes, record)?,
        (RequestState::Rejected, _) => reject(court, changes, record, decision)?,
        (RequestState::Closed, Some(edited)) => edit(court, changes, record, said, edited)?,
        _ => {}
    }
    Ok(Applied::Now)
}

/// The request that a decision is about.
fn about<'r>(record: &'r ActionRecord, decision: &DecisionData) -> Result<&'r ApprovalRecord, Complaint> {
    let named = record.approval.as_ref().filter(|approval| approval.id == decision.approval);
    named.ok_or_else(|| (Code::Superseded, "another request has taken this one's place".into()))
}

/// The same decision by the same person again: a redelivery, or an app that was not sure.
fn repeated(approval: &ApprovalRecord, said: &Said<'_>) -> bool {
    approval.request.votes.get(&said.reviewer.id) == Some(&said.decision.decision)
        && tagged(&approval.request.digest) == said.decision.digest
}

/// Judges the action under the generation in force before anybody decides it: policy may have ended it, or ask more.
fn look_again(court: &Court<'_>, changes: &mut Changes, record: &mut ActionRecord) -> Result<(), Complaint> {
    let judged = again::judge(court, record).map_err(|error| (Code::Illegal, error.to_string()))?;
    let same = again::same_content(&judged, record);
    let code = match judged.ruling.state {
        State::PendingApproval if same => {
            if judged.ruling.generation != record.ruling.generation {
                again::apply(changes, court, record, judged);
            }
            return Ok(());
        }
        State::Expired => Code::Expired,
        State::Denied => Code::DeniedByPolicy,
        _ => Code::Changed,
    };
    again::apply(changes, court, record, judged);
    let why = format!("judged again when the decision came, the action is {}", record.ruling.state);
    Err((code, why))
}

fn reasons(decision: &DecisionData, spec: &ApprovalSpec) -> Result<(), Complaint> {
    let reason = decision.reason.as_deref().unwrap_or_default();
    if reason.len() > REASON_MAX {
        return Err((Code::ReasonTooLong, format!("a reason has at most {REASON_MAX} bytes")));
    }
    match (decision.decision, &decision.reason_code) {
        (Decision::Reject, Some(code))
            if !spec.reason_codes.is_empty() && !spec.reason_codes.contains(code) =>
        {
            let why = format!("reason_code must be one of {}", spec.reason_codes.join(", "));
            Err((Code::ReasonUnknown, why))
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

/// Records the vote and says where the request stands then.
fn vote(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    said: &Said<'_>,
    bench: &Bench<'_>,
) -> Result<RequestState, Complaint> {
    let decision = said.decision;
    let shown =
        untagged(&decision.digest).ok_or_else(|| (Code::DigestMismatch, "the digest is none".to_owned()))?;
    let Some(approval) = &mut record.approval else { return Ok(RequestState::Closed) };
    let spec = approval.request.spec.clone();
    let event = RequestEvent::Decided {
        reviewer: said.reviewer.id.clone(),
        decision: decision.decision,
        digest: shown,
    };
    let state = approval
        .request
        .apply(event, court.now, &bench.counting(&spec))
        .map_err(|refused| (refused.code(), refused.to_string()))?;
    changes.decisions.push(DecisionRow {
        action: record.id,
        digest: shown.to_vec(),
        reviewer: said.reviewer.id.clone(),
        decision: decision.decision,
        approval: approval.id,
        event: said.event.into(),
        reason_code: decision.reason_code.clone(),
        reason: decision.reason.as_ref().map(|reason| reason.replace('\0', "\u{fffd}")),
        decided_at: court.now,
    });
    if state != RequestState::Open {
        let (approval, request) = (approval.clone(), approval.request.clone());
        changes.request(again::row(record, &approval, &request));
    }
    Ok(state)
}

fn approve(court: &Court<'_>, changes: &mut Changes, record: &mut ActionRecord) -> Result<(), Complaint> {
    let illegal = |error: Illegal| (Code::Illegal, error.to_string());
    let mut judged = again::judge(court, record).map_err(illegal)?;
    let held = court.governed.holds(&record.agent, &record.tool, &record.ruling.rule);
    let (state, effects) =
        transition(&again::standing(record), Event::Approved { held }, court.now).map_err(illegal)?;
    let voters = record.approval.iter().flat_map(|approval| approval.request.voters(Decision::Approve));
    judged.ruling.approvers = voters.map(str::to_owned).collect();
    judged.ruling.state = state;
    judged.ruling.approved = true;
    judged.effects = effects;
    settle(court, changes, record, judged);
    Ok(())
}

fn reject(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    decision: &DecisionData,
) -> Result<(), Complaint> {
    let (state, effects) = transition(&again::standing(record), Event::Rejected, court.now)
        .map_err(|error| (Code::Illegal, error.to_string()))?;
    let mut judged = Judged::unchanged(&record.ruling, effects);
    judged.ruling.state = state;
    let code = match (decision.decision, &decision.reason_code) {
        (Decision::Respond, _) => Code::Responded.into(),
        (_, Some(code)) => code.clone(),
        _ => Code::Rejected.into(),
    };
    let message = decision.reason.clone().unwrap_or_default();
    judged.failure = Some(Failure { code, message });
    settle(court, changes, record, judged);
    Ok(())
}

/// Writes what a human decided.
fn settle(court: &Court<'_>, changes: &mut Changes, record: &mut ActionRecord, mut judged: Judged) {
    let mut noted = changes.judged(&again::subject(court, record), &mut judged);
    noted["again"] = true.into();
    changes.evidence.push(Evidence::of(record.id, "action.judged", noted));
    record.ruling = judged.ruling;
    changes.rule(record.id, record.ruling.clone(), true);
}
