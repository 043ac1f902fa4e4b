//! Resolving an evaluation: the action's new status, and what is stored and sent because of it.

use countersign_core::{
    action::State,
    approval::{ApprovalSpec, RequestState},
    message::Failure,
    refusal::Code,
    stratum::stratum,
    transition::{Effect, Event, Illegal, Standing, transition},
    verdict::Verdict,
};
use countersign_policy::{INTAKE, LimitUse, Tool};
use countersign_statistics::switching::PlanState;
use countersign_store::{
    actions::{ActionRecord, ActionStatus, ApprovalRecord},
    sampling_plans::SamplingPlan,
};
use serde_json::Value;

use crate::{
    context::EvaluationContext,
    eligibility::Eligibility,
    evaluation::{Content, Evaluation, PolicyResult, refusal},
};

/// An action's new status, with what is stored beside it.
#[derive(Clone, Debug)]
pub(crate) struct Evaluated {
    pub(crate) status: ActionStatus,
    pub(crate) effects: Vec<Effect>,
    /// Whether an operator's hold covers it, or its sampling plan is discontinued.
    pub(crate) held: bool,
    /// The canonical content and its digest; `None` where the proposal was refused before it had one.
    pub(crate) content: Option<Content>,
    /// Why the rule requires approval.
    pub(crate) rule_text: String,
    /// Who must approve, and for how long the request stays open.
    pub(crate) approval: Option<ApprovalSpec>,
    /// The sampling plan that is opened for it.
    pub(crate) plan: Option<SamplingPlan>,
    /// The cumulative limit that it counts against, and by how much.
    pub(crate) usage: Option<LimitUse>,
    /// Why it will not be executed.
    pub(crate) failure: Option<Failure>,
    /// The condition that could not be evaluated, and why.
    pub(crate) errored: Option<String>,
    /// Why its score could not be evaluated.
    pub(crate) score_errored: Option<String>,
}

impl Evaluated {
    /// A change of state without an evaluation.
    pub(crate) fn unchanged(status: &ActionStatus, effects: Vec<Effect>) -> Self {
        Self {
            status: status.clone(),
            effects,
            held: false,
            content: None,
            rule_text: String::new(),
            approval: None,
            plan: None,
            usage: None,
            failure: None,
            errored: None,
            score_errored: None,
        }
    }

    /// Ends an action that its agent withdrew before it arrived, whatever its evaluation.
    pub(crate) fn withdrawn(
        self,
        context: &EvaluationContext<'_>,
        standing: &Standing,
    ) -> Result<Self, Illegal> {
        let (state, effects) = transition(standing, Event::Cancelled, context.now)?;
        let mut withdrawn = Self { effects, usage: None, failure: Some(cancelled()), ..self };
        withdrawn.status.state = state;
        if state == State::Expired {
            withdrawn.failure = Some(expired());
        }
        Ok(withdrawn)
    }
}

/// The failure of an action that expired.
pub(crate) fn expired() -> Failure {
    refusal(Code::Expired, "its deadline passed before it was executed")
}

/// The failure of an action that its agent withdrew.
pub(crate) fn cancelled() -> Failure {
    refusal(Code::Cancelled, "its agent withdrew it")
}

/// The new status of an evaluated action. `record` is the stored action, unless it is new.
///
/// A verdict never loosens a stored request: its requirements stay and the policy's are added, and an approval counts
/// while it satisfies both.
pub(crate) fn resolve(
    context: &EvaluationContext<'_>,
    evaluation: &mut Evaluation<'_>,
    standing: Standing,
    record: Option<&ActionRecord>,
) -> Result<Evaluated, Illegal> {
    let Evaluation { agent, proposal, result } = evaluation;
    let PolicyResult { tool, content, policy, usage } = match result {
        Ok(result) => result,
        Err(failure) => return refuse(context, &standing, failure.clone()),
    };
    let (tool, mut policy) = (*tool, policy.clone());
    let (stratum, plan_state, plan) = stratify(context, agent, &proposal.agent, tool, &policy);
    if matches!(plan_state, Some(PlanState::PreApproval | PlanState::Discontinued)) {
        policy = policy.with_approval_first();
    }
    let before = record.and_then(stored_request);
    let (spec, rule) = requirements(&mut policy, before);
    if rule != policy.rule {
        // The rule that asks people gave no score.
        policy.score = None;
    }
    // With another target or in another form, what would run is no longer what a human approved.
    let same = record.is_none_or(|record| record.digest == content.digest);
    let eligibility = Eligibility::new(context, agent, proposal, tool);
    let satisfied = || match (before, &spec) {
        (Some(before), Some(spec)) => {
            let counts = eligibility.counting(spec, &before.keys);
            let directory = &context.governed.configuration.directory;
            before.request.satisfies(spec, context.now, directory, &counts)
        }
        _ => false,
    };
    let approved = standing.approved && same && satisfied();
    let standing = Standing { approved, ..standing };
    let held =
        context.governed.holds(agent, &proposal.tool, &rule) || plan_state == Some(PlanState::Discontinued);
    let rejected = same && record.is_some_and(|record| rejected(context, record, spec.as_ref()));
    let event = match rejected && policy.verdict == Verdict::RequireApproval {
        true => Event::Rejected,
        false => Event::Evaluated { verdict: policy.verdict, held },
    };
    let (state, effects) = transition(&standing, event, context.now)?;
    let mut status = status(context, state, &policy, approved);
    (status.rule, status.stratum, status.plan_state) = (rule, stratum, plan_state);
    status.audit_rate = (status.audit_rate * plan_state.map_or(1.0, PlanState::tighter)).min(1.0);
    if let Some(record) = record.filter(|_| approved) {
        status.approvers.clone_from(&record.status.approvers);
    }
    Ok(Evaluated {
        status,
        effects,
        held,
        content: Some(content.clone()),
        failure: failure(state, &policy),
        rule_text: policy.text,
        approval: spec,
        plan,
        usage: usage.take().filter(|_| state.outcome().is_none()),
        score_errored: policy.score.and_then(|score| score.error),
        errored: policy.errored.map(|error| format!("{}: {}", error.rule, error.message)),
    })
}

/// The stratum of an action, the state of its sampling plan, and the plan itself where it is to be opened.
fn stratify(
    context: &EvaluationContext<'_>,
    agent: &str,
    stated: &Value,
    tool: &Tool,
    policy: &countersign_policy::Evaluation<'_>,
) -> (String, Option<PlanState>, Option<SamplingPlan>) {
    let (rule, tool, band) = (policy.rule, tool.name(), policy.band.as_deref());
    if policy.switching.is_none() {
        return (stratum(rule, tool, agent, stated, band), None, None);
    }
    let plan = context.governed.plan_of(rule, tool, agent, stated, band);
    let opened = || SamplingPlan {
        stratum: plan.stratum.clone(),
        rule: rule.into(),
        agent: agent.into(),
        state: plan.state,
    };
    let opened = plan.new.then(opened);
    (plan.stratum, Some(plan.state), opened)
}

/// The approval request of a stored action, if its verdict requires approval.
fn stored_request(record: &ActionRecord) -> Option<&ApprovalRecord> {
    record.approval.as_ref().filter(|_| record.status.verdict == Verdict::RequireApproval)
}

/// The requirements of the policy and the stored request together, and the rule that requires approval.
fn requirements(
    policy: &mut countersign_policy::Evaluation<'_>,
    before: Option<&ApprovalRecord>,
) -> (Option<ApprovalSpec>, String) {
    let spec = policy.approval.filter(|_| policy.verdict == Verdict::RequireApproval).cloned();
    let Some(before) = before else { return (spec, policy.rule.into()) };
    let spec = match spec {
        Some(now) => before.request.spec.union(&now),
        None => before.request.spec.clone(),
    };
    if policy.verdict != Verdict::Allow {
        return (Some(spec), policy.rule.into());
    }
    policy.verdict = Verdict::RequireApproval;
    policy.text.clone_from(&before.rule_text);
    (Some(spec), before.rule.clone())
}

/// Whether an open request has enough rejections to end it under the new requirements.
fn rejected(context: &EvaluationContext<'_>, record: &ActionRecord, spec: Option<&ApprovalSpec>) -> bool {
    let open = record.approval.as_ref().filter(|approval| approval.request.state == RequestState::Open);
    let directory = &context.governed.configuration.directory;
    let rejections = open.map(|approval| approval.request.rejections(directory));
    let (Some(rejections), Some(spec)) = (rejections, spec) else { return false };
    rejections > 0 && rejections >= spec.reject_after as usize
}

/// Why an action in this state will not be executed.
fn failure(state: State, policy: &countersign_policy::Evaluation<'_>) -> Option<Failure> {
    match state {
        State::Expired => Some(expired()),
        State::Rejected => Some(refusal(Code::Rejected, "enough reviewers have rejected it")),
        State::Denied => Some(refusal(Code::Policy, policy.reason.clone().unwrap_or_default())),
        _ => None,
    }
}

/// Denies a proposal without evaluating the policy.
pub(crate) fn refuse(
    context: &EvaluationContext<'_>,
    standing: &Standing,
    failure: Failure,
) -> Result<Evaluated, Illegal> {
    let event = Event::Evaluated { verdict: Verdict::Deny, held: false };
    let (state, effects) = transition(standing, event, context.now)?;
    let status = ActionStatus {
        state,
        verdict: Verdict::Deny,
        rule: INTAKE.into(),
        generation: context.governed.generation,
        policy_version: context.configuration().policy.version().into(),
        audit_rate: 0.0,
        audit_score: None,
        audit_group: String::new(),
        stratum: String::new(),
        plan_state: None,
        approved: false,
        approvers: vec![],
        permit: None,
    };
    Ok(Evaluated {
        rule_text: failure.message.clone(),
        failure: Some(failure),
        ..Evaluated::unchanged(&status, effects)
    })
}

fn status(
    context: &EvaluationContext<'_>,
    state: State,
    policy: &countersign_policy::Evaluation<'_>,
    approved: bool,
) -> ActionStatus {
    ActionStatus {
        state,
        verdict: policy.verdict,
        rule: policy.rule.into(),
        generation: context.governed.generation,
        policy_version: context.configuration().policy.version().into(),
        audit_rate: policy.audit_rate(),
        audit_score: policy.score.as_ref().map(|score| score.value),
        audit_group: policy.audit.group.clone(),
        stratum: String::new(),
        plan_state: None,
        approved,
        approvers: vec![],
        permit: None,
    }
}
