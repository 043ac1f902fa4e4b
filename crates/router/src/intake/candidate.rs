//! One proposal during intake: evaluated as a draft, then a candidate with everything that is stored if it is new.

use std::collections::HashSet;

use countersign_broker::lane::Delivery;
use countersign_core::{
    action::State,
    digest::{Salt, salted},
    ids::{ActionId, ActionRef},
    json::canonical,
    message::Failure,
    proposal::Proposal,
    refusal::{Code, Complaint},
    transition::{Illegal, Standing},
};
use countersign_policy::LimitUse;
use countersign_runtime::author;
use countersign_store::{actions::NewAction, payloads::Payload};
use uuid::Uuid;

use super::lineage::{describe, lineage};
use crate::{
    context::EvaluationContext,
    evaluated::{Evaluated, refuse, resolve},
    evaluation::{Evaluation, refusal},
    inbound::Message,
    incoming::{COMPENSATIONS, Compensation, Incoming},
    shared::Router,
    write_set::{Subject, WriteSet},
};

/// A proposal whose author may use its source, and its evaluation.
pub(super) struct Draft<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) reference: ActionRef,
    compensates: Option<ActionId>,
    agent: String,
    salt: Salt,
    /// The evaluation, or why there is nothing to evaluate.
    pub(super) evaluation: Result<Evaluation<'a>, Failure>,
}

/// A proposal with everything that is stored of it if it is new.
pub(super) struct Candidate<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) action: NewAction,
    pub(super) payload: Payload,
    /// Distinguishes a repetition from a conflict: the proposal in canonical form, or the raw bytes.
    pub(super) fingerprint: Vec<u8>,
    /// The agent's earlier action that it replaces.
    pub(super) supersedes: Option<ActionRef>,
    pub(super) write_set: WriteSet,
}

impl<'a> Draft<'a> {
    /// The cumulative limit that it counts against.
    pub(super) fn limit(&self) -> Option<&LimitUse> {
        self.evaluation.as_ref().ok()?.limit()
    }

    /// Checks the author and evaluates the proposal.
    pub(super) fn new(context: &EvaluationContext<'a>, incoming: Incoming<'a>) -> Result<Self, Complaint> {
        let Incoming { inbound, compensation, refused } = incoming;
        let delivery = inbound.delivery;
        let (agent, source) = resolve_author(context, delivery, compensation)?;
        let salt: Salt = rand::random();
        let (reference, proposal) = match inbound.message {
            Message::Proposal(proposal) => (proposal.reference.clone(), Ok(*proposal)),
            Message::Refused(refusal) => {
                let Some(reference) = refusal.reference else { return Err((refusal.code, refusal.message)) };
                (reference, Err(Failure::new(refusal.code, refusal.message)))
            }
            Message::Cancellation(_) => {
                return Err((Code::UnknownType, "a cancellation proposes nothing".into()));
            }
        };
        if reference.source != source {
            let why = format!("`source` is {:?}; it must be {source:?}", reference.source);
            return Err((Code::SourceForged, why));
        }
        let proposal = proposal.and_then(|proposal| match proposal.action.get("compensates") {
            Some(_) if compensation.is_none() => {
                let message = "leave out `data.compensates`: only Countersign proposes compensations";
                Err(refusal(Code::InvalidProposal, message))
            }
            _ => Ok(proposal),
        });
        let evaluation = proposal.map(|proposal| match refused {
            Some(failure) => Evaluation { agent: agent.clone(), proposal, result: Err(failure) },
            None => Evaluation::new(context, &agent, proposal, &salt),
        });
        let compensates = compensation.map(|compensation| compensation.undone);
        Ok(Self { delivery, reference, compensates, agent, salt, evaluation })
    }

    /// Resolves the evaluation and gathers what is stored if the action is new. `withdrawn` are the actions that
    /// were withdrawn before they arrived.
    pub(super) fn into_candidate(
        mut self,
        router: &Router,
        context: &EvaluationContext<'_>,
        withdrawn: &HashSet<ActionRef>,
    ) -> Result<Candidate<'a>, Complaint> {
        let evaluated =
            self.resolve(context, withdrawn).map_err(|error| (Code::Illegal, error.to_string()))?;
        Ok(self.assemble(router, context, evaluated))
    }

    fn resolve(
        &mut self,
        context: &EvaluationContext<'_>,
        withdrawn: &HashSet<ActionRef>,
    ) -> Result<Evaluated, Illegal> {
        let standing = |expires_at| Standing {
            state: State::Proposed,
            approved: false,
            expires_at,
            approval_expires_at: None,
        };
        let evaluation = match &mut self.evaluation {
            Ok(evaluation) => evaluation,
            Err(failure) => return refuse(context, &standing(None), failure.clone()),
        };
        let standing = standing(evaluation.proposal.expires_at);
        let evaluated = resolve(context, evaluation, standing, None)?;
        match withdrawn.contains(&self.reference) {
            true => evaluated.withdrawn(context, &standing),
            false => Ok(evaluated),
        }
    }

    fn assemble(
        self,
        router: &Router,
        context: &EvaluationContext<'_>,
        mut evaluated: Evaluated,
    ) -> Candidate<'a> {
        let Self { delivery, reference, compensates, agent, salt, evaluation } = self;
        let proposal: Option<Proposal> = evaluation.ok().map(|evaluation| evaluation.proposal);
        let id = ActionId(Uuid::now_v7());
        let expires_at = proposal.as_ref().and_then(|proposal| proposal.expires_at);
        let subject = Subject {
            action: id,
            reference: &reference,
            expires_at,
            now: context.now,
            permit_lifetime: context.permit_lifetime(),
        };
        let mut write_set = WriteSet::default();
        let mut noted = write_set.evaluated(&subject, &mut evaluated);
        noted.agent = Some(describe(router, &agent, proposal.as_ref()));
        if let Some(proposal) = &proposal {
            noted.tool = Some(proposal.tool.clone());
            noted.context = Some(lineage(&proposal.action));
        }
        write_set.note(id, noted);
        let fingerprint = proposal
            .as_ref()
            .and_then(|proposal| canonical(&proposal.action).ok())
            .unwrap_or_else(|| delivery.body.clone());
        let kept = compensates.is_some() || delivery.body.len() <= context.limits.message_bytes;
        let payload = Payload {
            action: id,
            body: if kept { delivery.body.clone() } else { Vec::new() },
            digest: evaluated.content.as_ref().map_or_else(|| salted(&salt, &[]), |content| content.digest),
            content: evaluated.content.map(|content| content.bytes),
            body_digest: salted(&salt, &fingerprint),
            salt,
        };
        let supersedes = proposal.as_ref().and_then(|proposal| proposal.supersedes.clone());
        let action = NewAction {
            id,
            supersedes: None,
            compensates,
            reference,
            agent,
            tool: proposal.as_ref().map(|proposal| proposal.tool.clone()).unwrap_or_default(),
            expires_at,
            traceparent: proposal.and_then(|proposal| proposal.traceparent),
            status: evaluated.status,
        };
        Candidate { delivery, action, payload, fingerprint, supersedes, write_set }
    }
}

/// The agent that proposes, and the source that the proposal must name.
fn resolve_author(
    context: &EvaluationContext<'_>,
    delivery: &Delivery,
    compensation: Option<Compensation<'_>>,
) -> Result<(String, String), Complaint> {
    if let Some(compensation) = compensation {
        return Ok((compensation.agent.to_owned(), COMPENSATIONS.to_owned()));
    }
    let user = author::of(delivery)?;
    let agent = context.configuration().directory.agent_of_user(user);
    let agent = agent.ok_or_else(|| author::unknown(user, "agent"))?;
    Ok((agent.id.clone(), agent.source()))
}
