//! Who may decide: members of the right groups within their authority, neither the requester nor anybody excluded.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::{
    approval::{ApprovalSpec, Request},
    proposal::Proposal,
    refusal::{Code, Complaint},
};
use countersign_policy::{Facts, Member, Tool};
use countersign_runtime::independence;

use crate::context::EvaluationContext;

/// Who may decide one action.
pub(crate) struct Eligibility<'a> {
    context: &'a EvaluationContext<'a>,
    agent: &'a str,
    facts: Facts<'a>,
}

impl<'a> Eligibility<'a> {
    pub(crate) fn new(
        context: &'a EvaluationContext<'a>,
        agent: &'a str,
        proposal: &'a Proposal,
        tool: &'a Tool,
    ) -> Self {
        let facts = Facts { action: &proposal.action, agent: &proposal.agent, tool, now: context.now };
        Self { context, agent, facts }
    }

    /// Checks that a reviewer may decide the request.
    pub(crate) fn check(&self, reviewer: &Member, request: &Request) -> Result<(), Complaint> {
        let groups = request.spec.groups(request.opened_at, self.context.now);
        if !reviewer.groups.iter().any(|group| groups.contains(group.as_str())) {
            let groups: Vec<&str> = groups.into_iter().collect();
            return Err((Code::NotInGroup, format!("only {} may decide this", groups.join(" and "))));
        }
        self.independent(reviewer, &request.spec)
    }

    /// The groups of a person whose approval counts, or `None`. `keys` are those that signed each person's decisions.
    pub(crate) fn counting<'s>(
        &'s self,
        spec: &'s ApprovalSpec,
        keys: &'s BTreeMap<String, BTreeSet<String>>,
    ) -> impl Fn(&str) -> Option<BTreeSet<String>> + 's {
        move |id: &str| {
            let reviewer = self.context.governed.configuration.directory.reviewer(id)?;
            self.independent(reviewer, spec).ok()?;
            keys.get(id)
                .is_some_and(|kids| self.is_key_valid(reviewer, kids))
                .then(|| reviewer.groups.clone())
        }
    }

    /// Whether one of the keys that signed for a reviewer is still registered and has not been revoked.
    pub(crate) fn is_key_valid(&self, reviewer: &Member, kids: &BTreeSet<String>) -> bool {
        let registered = self.context.governed.configuration.directory.keys_for(reviewer);
        registered.filter(|key| kids.contains(&key.kid)).any(|key| !key.is_revoked(self.context.now))
    }

    fn independent(&self, reviewer: &Member, spec: &ApprovalSpec) -> Result<(), Complaint> {
        let governed = self.context.governed;
        independence::check(governed, self.agent, self.facts.agent, &reviewer.id)?;
        let policy = &governed.configuration.policy;
        if spec.exclude.iter().any(|exclusion| policy.excludes(exclusion, &self.facts, reviewer)) {
            return Err((Code::Excluded, "the rule excludes you from deciding this".into()));
        }
        reviewer.within_authority(&self.facts).map_err(|reach| (Code::BeyondAuthority, reach))
    }
}
