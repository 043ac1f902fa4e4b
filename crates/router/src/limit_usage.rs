//! Cumulative limits while a batch is evaluated: the locked sums, and what the batch itself adds to them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use countersign_core::{ids::ActionId, proposal::Proposal, verdict::Verdict};
use countersign_policy::{Facts, LimitUse};
use countersign_store::{
    StoreError, Transaction,
    limits::{self, Sums},
};

use crate::evaluation::EvaluationContext;

/// Sums by rule and key, and what each action that is evaluated again has added to them before.
#[derive(Default)]
pub(crate) struct LimitUsage {
    sums: Mutex<Sums>,
}

impl LimitUsage {
    /// Locks and reads the sums that these proposals add to. `stored` are actions that may be evaluated again: what
    /// they have added already does not count against them. Costs nothing where the policy has no limits.
    pub(crate) async fn of<'p>(
        tx: &Transaction,
        context: &EvaluationContext<'_>,
        proposals: impl Iterator<Item = &'p Proposal>,
        stored: &[ActionId],
    ) -> Result<Self, StoreError> {
        let configuration = &context.governed.configuration;
        let mut keys = BTreeMap::new();
        if configuration.policy.has_limits() {
            for proposal in proposals {
                let Some(tool) = configuration.tools.get(&proposal.tool) else { continue };
                let facts =
                    Facts { action: &proposal.action, agent: &proposal.agent, tool, now: context.now };
                let evaluation = configuration.policy.evaluate(&facts);
                if let Some(limit) = evaluation.limit {
                    keys.insert((evaluation.rule.to_owned(), limit.key), limit.within);
                }
            }
        }
        Ok(Self { sums: Mutex::new(limits::sums(tx, &keys, stored).await?) })
    }

    /// The sums as they are, to go back to with [`LimitUsage::back_to`] where an attempt comes to nothing.
    pub(crate) fn mark(&self) -> Sums {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what has been added since.
    pub(crate) fn back_to(&self, mark: Sums) {
        *self.sums.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }

    /// Whether the action stays within the limit. What it adds takes the place of what a stored action has added
    /// before; an action that the limit denies adds nothing any more.
    pub(crate) fn admits(&self, rule: &str, usage: &LimitUse, action: Option<ActionId>) -> bool {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (rule.to_owned(), usage.key.clone());
        let before = action.and_then(|action| sums.own.remove(&(key.clone(), action))).unwrap_or_default();
        let Some(sum) = sums.all.get_mut(&key) else { return false };
        // A sum that overflows is beyond every limit.
        let Some(after) = sum.checked_sub(before).and_then(|others| others.checked_add(usage.amount)) else {
            return false;
        };
        let within = after <= usage.max;
        let stays = within || usage.exceeded != Verdict::Deny;
        *sum = if stays { after } else { *sum - before };
        if let (Some(action), true) = (action, stays) {
            sums.own.insert((key, action), usage.amount);
        }
        within
    }
}
