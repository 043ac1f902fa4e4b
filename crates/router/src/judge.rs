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
use countersign_policy::{Configuration, Facts, INTAKE, Judgement, LimitUsage, Tool};
use countersign_runtime::{governed::Governed, settings::Limits};
use countersign_statistics::switching::{Stage, TIGHTER};
use countersign_store::actions::{ActionRecord, ApprovalRecord, Ruling};

use crate::{entitled::Bench, tally::Tally};

/// What is stored of a judged action beside its ruling.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) ruling: Ruling,
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
    pub(crate) usage: Option<(String, LimitUsage)>,
    /// Why it will not be executed.
    pub(crate) failure: Option<Failure>,
    /// The condition that could not be evaluated, and why.
    pub(crate) errored: Option<String>,
}

impl Judged {
    /// A change of state that no new judgement brought about.
    pub(crate) fn unchanged(ruling: &Ruling, effects: Vec<Effect>) -> Self {
        Self {
            ruling: ruling.clone(),
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

/// What an agent is told whose action ran out of time.
pub(crate) fn expired() -> Failure {
    refusal(Code::Expired, "its time ran out before it was executed")
}

/// What an agent is told that has withdrawn its action.
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

/// Under what a proposal is judged.
pub(crate) struct Court<'a> {
    pub(crate) governed: &'a Governed,
    pub(crate) limits: &'a Limits,
    pub(crate) now: DateTime<Utc>,
    /// The cumulative limits that the action adds to; none where what it adds was counted before.
    pub(crate) tally: Option<&'a Tally>,
}

/// The request by which a stored action was asked about, if a human was asked at all.
fn asked(record: &ActionRecord) -> Option<&ApprovalRecord> {
    record.approval.as_ref().filter(|_| record.ruling.verdict == Verdict::RequireApproval)
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

impl Court<'_> {
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
    pub(crate) fn judge(
        &self,
        proposal: &Proposal,
        agent: &str,
        salt: &Salt,
        standing: Standing,
        record: Option<&ActionRecord>,
    ) -> Result<Judged, Illegal> {
        let (tool, content) = match self.admit(proposal, agent, salt) {
            Ok(admitted) => admitted,
            Err(failure) => return self.refuse(standing, failure),
        };
        let facts = Facts { action: &proposal.action, agent: &proposal.agent, tool, now: self.now };
        let mut judgement = self.configuration().policy.judge(&facts);
        let mut usage = None;
        if let (Some(tally), Some(limit)) = (self.tally, &judgement.limit) {
            usage = Some((judgement.rule.to_owned(), limit.clone()));
            if !tally.admits(judgement.rule, limit, record.map(|record| record.id)) {
                judgement = judgement.exceeded();
            }
        }
        let class = stratum(judgement.rule, tool.name(), agent, &proposal.agent, judgement.band.as_deref());
        let stage = judgement.switching.map(|_| self.governed.stage(&class));
        if matches!(stage, Some(Stage::Pre | Stage::Hold)) {
            judgement = judgement.approved_first();
        }
        let asked = record.and_then(asked);
        let mut spec = judgement.approval.filter(|_| judgement.verdict == Verdict::RequireApproval).cloned();
        let mut rule = judgement.rule;
        if let Some(before) = asked {
            spec = Some(match spec {
                Some(now) => before.request.spec.union(&now),
                None => before.request.spec.clone(),
            });
            if judgement.verdict == Verdict::Allow {
                judgement.verdict = Verdict::RequireApproval;
                judgement.text.clone_from(&before.rule_text);
                rule = &before.rule;
            }
        }
        let bench = Bench::new(self, agent, proposal, tool);
        // Another target or another form: what a human approved is no longer what would run.
        let same = record.is_none_or(|record| record.digest == content.digest);
        let satisfied = || match (asked, &spec) {
            (Some(before), Some(spec)) => {
                let counts = bench.counting(spec, &before.keys);
                let people: Vec<_> = before.request.voters(Decision::Approve).filter_map(&counts).collect();
                spec.satisfied(&people, before.request.opened_at, self.now)
            }
            _ => false,
        };
        let approved = standing.approved && same && satisfied();
        let standing = Standing { approved, ..standing };
        let held = self.governed.holds(agent, &proposal.tool, rule) || stage == Some(Stage::Hold);
        let turned_down = same && record.is_some_and(|record| turned_down(record, spec.as_ref()));
        let event = match turned_down && judgement.verdict == Verdict::RequireApproval {
            true => Event::Rejected,
            false => Event::Judged { verdict: judgement.verdict, held },
        };
        let (state, effects) = transition(&standing, event, self.now)?;
        let failure = match state {
            State::Expired => Some(expired()),
            State::Rejected => Some(refusal(Code::Rejected, "enough reviewers have rejected it")),
            State::Denied => Some(refusal(Code::Policy, judgement.reason.clone().unwrap_or_default())),
            _ => None,
        };
        let mut ruling = Ruling {
            rule: rule.into(),
            stratum: class,
            stage,
            ..self.ruling(state, &judgement, standing.approved)
        };
        if stage == Some(Stage::Tight) {
            ruling.audit_rate = (ruling.audit_rate * TIGHTER).min(1.0);
        }
        if let Some(record) = record.filter(|_| approved) {
            ruling.approvers.clone_from(&record.ruling.approvers);
        }
        Ok(Judged {
            ruling,
            effects,
            held,
            content: Some(content),
            rule_text: judgement.text.clone(),
            approval: spec,
            usage: usage.filter(|_| state.outcome().is_none()),
            failure,
            errored: judgement.errored.as_ref().map(|error| format!("{}: {}", error.rule, error.message)),
        })
    }

    /// Ends what its agent has withdrawn before it arrived, whatever was made of it.
    pub(crate) fn withdrawn(&self, standing: Standing, judged: Judged) -> Result<Judged, Illegal> {
        let (state, effects) = transition(&standing, Event::Cancelled, self.now)?;
        let mut withdrawn = Judged { effects, usage: None, failure: Some(cancelled()), ..judged };
        withdrawn.ruling.state = state;
        if state == State::Expired {
            withdrawn.failure = Some(expired());
        }
        Ok(withdrawn)
    }

    /// Denies what policy never gets to see.
    pub(crate) fn refuse(&self, standing: Standing, failure: Failure) -> Result<Judged, Illegal> {
        let event = Event::Judged { verdict: Verdict::Deny, held: false };
        let (state, effects) = transition(&standing, event, self.now)?;
        let ruling = Ruling {
            state,
            verdict: Verdict::Deny,
            rule: INTAKE.into(),
            generation: self.governed.generation,
            policy_version: self.configuration().policy.version().into(),
            audit_rate: 0.0,
            audit_group: String::new(),
            stratum: String::new(),
            stage: None,
            approved: false,
            approvers: vec![],
            permit: None,
        };
        Ok(Judged {
            ruling,
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

    fn ruling(&self, state: State, judgement: &Judgement<'_>, approved: bool) -> Ruling {
        Ruling {
            state,
            verdict: judgement.verdict,
            rule: judgement.rule.into(),
            generation: self.governed.generation,
            policy_version: self.configuration().policy.version().into(),
            audit_rate: judgement.audit.rate,
            audit_group: judgement.audit.group.clone(),
            stratum: String::new(),
            stage: None,
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
