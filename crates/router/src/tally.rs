//! Cumulative limits while a batch is judged: the locked sums, and what the batch itself adds to them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use countersign_core::{ids::ActionId, proposal::Proposal, verdict::Verdict};
use countersign_policy::{Facts, LimitUsage};
use countersign_store::{
    StoreError, Transaction,
    limits::{self, Sums},
};

use crate::judge::Court;

/// Sums by rule and key, and what each action that is judged again has added to them before.
#[derive(Default)]
pub(crate) struct Tally {
    sums: Mutex<Sums>,
}

impl Tally {
    /// Locks and reads the sums that these proposals add to. `again` are stored actions that may be judged again: what
    /// they have added already does not count against them. Costs nothing where the policy has no limits.
    pub(crate) async fn of<'p>(
        tx: &Transaction,
        court: &Court<'_>,
        proposals: impl Iterator<Item = &'p Proposal>,
        again: &[ActionId],
    ) -> Result<Self, StoreError> {
        let configuration = &court.governed.configuration;
        let mut keys = BTreeMap::new();
        if configuration.policy.has_limits() {
            for proposal in proposals {
                let Some(tool) = configuration.tools.get(&proposal.tool) else { continue };
                let facts = Facts { action: &proposal.action, agent: &proposal.agent, tool, now: court.now };
                let judgement = configuration.policy.judge(&facts);
                if let Some(limit) = judgement.limit {
                    keys.insert((judgement.rule.to_owned(), limit.key), limit.within);
                }
            }
        }
        Ok(Self { sums: Mutex::new(limits::sums(tx, &keys, again).await?) })
    }

    /// The sums as they are, to go back to with [`Tally::back_to`] where an attempt comes to nothing.
    pub(crate) fn mark(&self) -> Sums {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what has been added since.
    pub(crate) fn back_to(&self, mark: Sums) {
        *self.sums.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }

    /// Whether the action stays within the limit. What it adds takes the place of what a stored action has added
    /// before; an action that the limit denies adds nothing any more.
    pub(crate) fn admits(&self, rule: &str, usage: &LimitUsage, action: Option<ActionId>) -> bool {
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
