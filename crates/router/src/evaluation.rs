//! Judging a proposal under one generation: directory, tool registry, policy, holds.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_core::{
    action::State,
    approval::{ApprovalSpec, RequestState},
    digest::{self, Salt, Target},
    message::{Decision, Failure},
    proposal::Proposal,
    refusal::Code,
    stratum::stratum,
    transition::{Effect, Event, Illegal, Standing, transition},
    verdict::Verdict,
};
use countersign_policy::{Configuration, Evaluation, Facts, INTAKE, LimitUse, Tool};
use countersign_runtime::{governed::Governed, settings::Limits};
use countersign_statistics::switching::{PlanState, TIGHTER};
use countersign_store::actions::{ActionRecord, ActionStatus, ApprovalRecord};

use crate::{eligibility::Eligibility, limit_usage::LimitUsage};

/// What is stored of a evaluated action beside its status.
#[derive(Clone, Debug)]
pub(crate) struct Evaluated {
    pub(crate) status: ActionStatus,
    pub(crate) effects: Vec<Effect>,
    /// Whether an operator's hold covers it, or its class executes nothing.
    pub(crate) held: bool,
    /// The canonical content and its digest; `None` where the proposal was refused before it had one.
    pub(crate) content: Option<Content>,
    /// Why the rule asks.
    pub(crate) rule_text: String,
    /// Whom it asks, and for how long.
    pub(crate) approval: Option<ApprovalSpec>,
    /// What it adds to a cumulative limit of which rule.
    pub(crate) usage: Option<(String, LimitUse)>,
    /// Why it will not be executed.
    pub(crate) failure: Option<Failure>,
    /// The condition that could not be evaluated, and why.
    pub(crate) errored: Option<String>,
}

impl Evaluated {
    /// A write_set of state that no new evaluation brought about.
    pub(crate) fn unchanged(status: &ActionStatus, effects: Vec<Effect>) -> Self {
        Self {
            status: status.clone(),
            effects,
            held: false,
            content: None,
            rule_text: String::new(),
            approval: None,
            usage: None,
            failure: None,
            errored: None,
        }
    }
}

/// What an agent is notified resolve_author action ran out of time.
pub(crate) fn expired() -> Failure {
    refusal(Code::Expired, "its time ran out before it was executed")
}

/// What an agent is notified that has withdrawn its action.
pub(crate) fn cancelled() -> Failure {
    refusal(Code::Cancelled, "its agent withdrew it")
}

/// What a human approves.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) salt: Salt,
    pub(crate) digest: [u8; 32],
    pub(crate) target: Target,
}

/// Under what a proposal is evaluated.
pub(crate) struct EvaluationContext<'a> {
    pub(crate) governed: &'a Governed,
    pub(crate) limits: &'a Limits,
    pub(crate) now: DateTime<Utc>,
    /// The cumulative limits that the action adds to; none where what it adds was counted before.
    pub(crate) limit_usage: Option<&'a LimitUsage>,
}

/// The request by which a stored action was asked about, if a human was asked at all.
fn asked(record: &ActionRecord) -> Option<&ApprovalRecord> {
    record.approval.as_ref().filter(|_| record.status.verdict == Verdict::RequireApproval)
}

/// Whether those who have rejected an open request are enough for what it asks from now on.
fn turned_down(record: &ActionRecord, spec: Option<&ApprovalSpec>) -> bool {
    let open = record.approval.as_ref().filter(|approval| approval.request.state == RequestState::Open);
    let rejections = open.map(|approval| approval.request.voters(Decision::Reject).count());
    let (Some(rejections), Some(spec)) = (rejections, spec) else { return false };
    rejections > 0 && rejections >= spec.reject_after as usize
}

fn refusal(code: Code, message: impl Into<String>) -> Failure {
    Failure { code: code.into(), message: message.into() }
}

impl EvaluationContext<'_> {
    fn configuration(&self) -> &Configuration {
        &self.governed.configuration
    }

    /// How long a permit is valid.
    pub(crate) fn permit_lifetime(&self) -> TimeDelta {
        TimeDelta::from_std(self.limits.permit_lifetime).unwrap_or(TimeDelta::MAX)
    }

    /// Judges `proposal` by `agent`, for the first time or again (then `standing` says where it stands and
    /// `record` what is stored of it).
    ///
    /// A verdict never loosens what a human has been asked: whatever asked before asks still, together with what
    /// asks now, and an approval counts while it satisfies both.
    pub(crate) fn evaluate(
        &self,
        proposal: &Proposal,
        agent: &str,
        salt: &Salt,
        standing: Standing,
        record: Option<&ActionRecord>,
    ) -> Result<Evaluated, Illegal> {
        let (tool, content) = match self.admit(proposal, agent, salt) {
            Ok(admitted) => admitted,
            Err(failure) => return self.refuse(standing, failure),
        };
        let facts = Facts { action: &proposal.action, agent: &proposal.agent, tool, now: self.now };
        let mut evaluation = self.configuration().policy.evaluate(&facts);
        let mut usage = None;
        if let (Some(limit_usage), Some(limit)) = (self.limit_usage, &evaluation.limit) {
            usage = Some((evaluation.rule.to_owned(), limit.clone()));
            if !limit_usage.admits(evaluation.rule, limit, record.map(|record| record.id)) {
                evaluation = evaluation.exceeded();
            }
        }
        let class = stratum(evaluation.rule, tool.name(), agent, &proposal.agent, evaluation.band.as_deref());
        let plan_state = evaluation.switching.map(|_| self.governed.plan_state(&class));
        if matches!(plan_state, Some(PlanState::PreApproval | PlanState::Discontinued)) {
            evaluation = evaluation.approved_first();
        }
        let asked = record.and_then(asked);
        let mut spec =
            evaluation.approval.filter(|_| evaluation.verdict == Verdict::RequireApproval).cloned();
        let mut rule = evaluation.rule;
        if let Some(before) = asked {
            spec = Some(match spec {
                Some(now) => before.request.spec.union(&now),
                None => before.request.spec.clone(),
            });
            if evaluation.verdict == Verdict::Allow {
                evaluation.verdict = Verdict::RequireApproval;
                evaluation.text.clone_from(&before.rule_text);
                rule = &before.rule;
            }
        }
        let eligibility = Eligibility::new(self, agent, proposal, tool);
        // Another target or another form: what a human approved is no longer what would run.
        let same = record.is_none_or(|record| record.digest == content.digest);
        let satisfied = || match (asked, &spec) {
            (Some(before), Some(spec)) => {
                let counts = eligibility.counting(spec, &before.keys);
                let people: Vec<_> = before.request.voters(Decision::Approve).filter_map(&counts).collect();
                spec.satisfied(&people, before.request.opened_at, self.now)
            }
            _ => false,
        };
        let approved = standing.approved && same && satisfied();
        let standing = Standing { approved, ..standing };
        let held =
            self.governed.holds(agent, &proposal.tool, rule) || plan_state == Some(PlanState::Discontinued);
        let turned_down = same && record.is_some_and(|record| turned_down(record, spec.as_ref()));
        let event = match turned_down && evaluation.verdict == Verdict::RequireApproval {
            true => Event::Rejected,
            false => Event::Evaluated { verdict: evaluation.verdict, held },
        };
        let (state, effects) = transition(&standing, event, self.now)?;
        let failure = match state {
            State::Expired => Some(expired()),
            State::Rejected => Some(refusal(Code::Rejected, "enough reviewers have rejected it")),
            State::Denied => Some(refusal(Code::Policy, evaluation.reason.clone().unwrap_or_default())),
            _ => None,
        };
        let mut status = ActionStatus {
            rule: rule.into(),
            stratum: class,
            plan_state,
            ..self.status(state, &evaluation, standing.approved)
        };
        if plan_state == Some(PlanState::Tightened) {
            status.audit_rate = (status.audit_rate * TIGHTER).min(1.0);
        }
        if let Some(record) = record.filter(|_| approved) {
            status.approvers.clone_from(&record.status.approvers);
        }
        Ok(Evaluated {
            status,
            effects,
            held,
            content: Some(content),
            rule_text: evaluation.text.clone(),
            approval: spec,
            usage: usage.filter(|_| state.outcome().is_none()),
            failure,
            errored: evaluation.errored.as_ref().map(|error| format!("{}: {}", error.rule, error.message)),
        })
    }

    /// Ends what its agent has withdrawn before it arrived, whatever was made of it.
    pub(crate) fn withdrawn(&self, standing: Standing, evaluated: Evaluated) -> Result<Evaluated, Illegal> {
        let (state, effects) = transition(&standing, Event::Cancelled, self.now)?;
        let mut withdrawn = Evaluated { effects, usage: None, failure: Some(cancelled()), ..evaluated };
        withdrawn.status.state = state;
        if state == State::Expired {
            withdrawn.failure = Some(expired());
        }
        Ok(withdrawn)
    }

    /// Denies what policy never gets to see.
    pub(crate) fn refuse(&self, standing: Standing, failure: Failure) -> Result<Evaluated, Illegal> {
        let event = Event::Evaluated { verdict: Verdict::Deny, held: false };
        let (state, effects) = transition(&standing, event, self.now)?;
        let status = ActionStatus {
            state,
            verdict: Verdict::Deny,
            rule: INTAKE.into(),
            generation: self.governed.generation,
            policy_version: self.configuration().policy.version().into(),
            audit_rate: 0.0,
            audit_group: String::new(),
            stratum: String::new(),
            plan_state: None,
            approved: false,
            approvers: vec![],
            permit: None,
        };
        Ok(Evaluated {
            status,
            effects,
            held: false,
            content: None,
            rule_text: failure.message.clone(),
            approval: None,
            usage: None,
            failure: Some(failure),
            errored: None,
        })
    }

    fn status(&self, state: State, evaluation: &Evaluation<'_>, approved: bool) -> ActionStatus {
        ActionStatus {
            state,
            verdict: evaluation.verdict,
            rule: evaluation.rule.into(),
            generation: self.governed.generation,
            policy_version: self.configuration().policy.version().into(),
            audit_rate: evaluation.audit.rate,
            audit_group: evaluation.audit.group.clone(),
            stratum: String::new(),
            plan_state: None,
            approved,
            approvers: vec![],
            permit: None,
        }
    }

    /// Everything that must hold before policy is asked.
    fn admit(&self, proposal: &Proposal, agent: &str, salt: &Salt) -> Result<(&Tool, Content), Failure> {
        if self.configuration().directory.agent(agent).is_none() {
            return Err(refusal(Code::AgentUnknown, format!("{agent:?} is no agent of the directory")));
        }
        if proposal.agent_id != agent {
            let message = format!("`data.agent.id` is {:?}, the author is {agent:?}", proposal.agent_id);
            return Err(refusal(Code::AgentMismatch, message));
        }
        let horizon = TimeDelta::from_std(self.limits.duplicate_horizon).unwrap_or(TimeDelta::MAX);
        if proposal.time.is_some_and(|time| self.now.signed_duration_since(time) > horizon) {
            let message = "`time` lies before the horizon within which duplicates are known";
            return Err(refusal(Code::ProposalTooOld, message));
        }
        let tool = self.configuration().tools.get(&proposal.tool).ok_or_else(|| {
            refusal(Code::UnknownTool, format!("there is no tool {:?} in the registry", proposal.tool))
        })?;
        tool.check_arguments(&proposal.arguments)
            .map_err(|complaint| refusal(Code::InvalidArguments, complaint))?;
        let target =
            Target { tool: tool.name().into(), version: tool.version().into(), endpoint: tool.endpoint() };
        let bytes = digest::content(&proposal.agent, &proposal.arguments, &target)
            .map_err(|error| refusal(error.code(), error.to_string()))?;
        let digest = digest::salted(salt, &bytes);
        Ok((tool, Content { bytes, salt: *salt, digest, target }))
    }
}
