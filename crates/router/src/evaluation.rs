//! Evaluating a proposal: the checks before the policy, the policy's evaluation, and the cumulative limit.
//!
//! **A transaction evaluates a proposal once**, under the active generation's lock, then admits it against the limits
//! whose sums it has locked, and then resolves it ([`crate::evaluated`]), which it may do again after a vote.
//!
//! The keys of the limits come from the evaluations, so an evaluation that counts against a limit is made before the
//! sums are locked: its time conditions are evaluated by the clock of that moment, read under the locks of the
//! generation and the action. Deadlines, authority and permits are checked when it is resolved, by a clock that is read
//! after the sums are locked.

use chrono::TimeDelta;
use countersign_core::{
    digest::{self, Salt, Target},
    ids::ActionId,
    message::Failure,
    proposal::Proposal,
    refusal::Code,
};
use countersign_policy::{Facts, LimitUse, Tool};

use crate::{context::EvaluationContext, limit_usage::LimitUsage};

/// What a human approves.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) salt: Salt,
    pub(crate) digest: [u8; 32],
    pub(crate) target: Target,
}

/// A proposal and its evaluation by the active generation's policy.
pub(crate) struct Evaluation<'a> {
    pub(crate) agent: String,
    pub(crate) proposal: Proposal,
    /// The result, or why the policy was not evaluated.
    pub(crate) result: Result<PolicyResult<'a>, Failure>,
}

/// The policy's evaluation, and the tool and content that it is bound to.
pub(crate) struct PolicyResult<'a> {
    pub(crate) tool: &'a Tool,
    pub(crate) content: Content,
    pub(crate) policy: countersign_policy::Evaluation<'a>,
    /// The limit that the action counts against, and by how much: set on admission, taken on resolution.
    pub(crate) usage: Option<LimitUse>,
}

pub(crate) fn refusal(code: Code, message: impl Into<String>) -> Failure {
    Failure::new(code, message)
}

impl<'a> Evaluation<'a> {
    /// Evaluates a proposal of `agent`.
    pub(crate) fn new(
        context: &EvaluationContext<'a>,
        agent: &str,
        proposal: Proposal,
        salt: &Salt,
    ) -> Evaluation<'a> {
        let result = check(context, agent, &proposal, salt).map(|(tool, content)| {
            let facts = Facts { action: &proposal.action, agent: &proposal.agent, tool, now: context.now };
            PolicyResult {
                tool,
                content,
                policy: context.configuration().policy.evaluate(&facts),
                usage: None,
            }
        });
        Self { agent: agent.into(), proposal, result }
    }

    /// The cumulative limit that the action counts against.
    pub(crate) fn limit(&self) -> Option<&LimitUse> {
        self.result.as_ref().ok()?.policy.limit.as_ref()
    }

    /// Counts the action against its limit; beyond it, the limit's verdict applies. An action whose usage is stored
    /// already is not admitted again. `action` is its id if it is stored.
    pub(crate) fn admit(&mut self, limit_usage: &mut LimitUsage, action: Option<ActionId>) {
        let Ok(result) = &mut self.result else { return };
        let Some(limit) = &result.policy.limit else { return };
        result.usage = Some(limit.clone());
        if !limit_usage.admits(limit, action) {
            result.policy = result.policy.clone().with_limit_exceeded();
        }
    }
}

/// The checks before the policy.
fn check<'a>(
    context: &EvaluationContext<'a>,
    agent: &str,
    proposal: &Proposal,
    salt: &Salt,
) -> Result<(&'a Tool, Content), Failure> {
    let configuration = context.configuration();
    if configuration.directory.agent(agent).is_none() {
        return Err(refusal(Code::AgentUnknown, format!("the directory has no agent {agent:?}")));
    }
    if proposal.agent_id != agent {
        let message = format!("`data.agent.id` is {:?}, but the author is {agent:?}", proposal.agent_id);
        return Err(refusal(Code::AgentMismatch, message));
    }
    let horizon = TimeDelta::from_std(context.limits.duplicate_horizon).unwrap_or(TimeDelta::MAX);
    if proposal.time.is_some_and(|time| context.now.signed_duration_since(time) > horizon) {
        let message = "`time` is older than the horizon within which duplicates are detected";
        return Err(refusal(Code::ProposalTooOld, message));
    }
    let tool = configuration
        .tools
        .get(&proposal.tool)
        .ok_or_else(|| refusal(Code::UnknownTool, format!("the registry has no tool {:?}", proposal.tool)))?;
    tool.check_arguments(&proposal.arguments)
        .map_err(|complaint| refusal(Code::InvalidArguments, complaint))?;
    let target =
        Target { tool: tool.name().into(), version: tool.version().into(), endpoint: tool.endpoint() };
    let bytes = digest::content(&proposal.agent, &proposal.arguments, &target)
        .map_err(|error| refusal(error.code(), error.to_string()))?;
    let digest = digest::salted(salt, &bytes);
    Ok((tool, Content { bytes, salt: *salt, digest, target }))
}
