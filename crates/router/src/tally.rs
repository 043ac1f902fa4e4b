//! Cumulative limits while a batch is judged: the locked sums, and what the batch itself adds to them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use countersign_core::{
    config::{Facts, LimitUse, Verdict},
    ids::ActionId,
    proposal::Proposal,
};
use countersign_store::{
    StoreError, Transaction,
    limits::{self, LimitKey},
};
use rust_decimal::Decimal;

use crate::judge::Court;

/// Sums by rule and key.
#[derive(Default)]
pub(crate) struct Tally {
    sums: Mutex<BTreeMap<LimitKey, Decimal>>,
}

impl Tally {
    /// Locks and reads the sums that these proposals add to. `but` are actions that are judged again: what they have
    /// added already does not count against them. Costs nothing where the policy has no limits.
    pub(crate) async fn of<'p>(
        tx: &Transaction<'_>,
        court: &Court<'_>,
        proposals: impl Iterator<Item = &'p Proposal>,
        but: &[ActionId],
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
        Ok(Self { sums: Mutex::new(limits::sums(tx, &keys, but).await?) })
    }

    /// Whether the action stays within the limit. What it adds is added, unless the limit denies it.
    pub(crate) fn admits(&self, rule: &str, usage: &LimitUse) -> bool {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sum) = sums.get_mut(&(rule.to_owned(), usage.key.clone())) else { return false };
        // A sum that overflows is beyond every limit.
        let Some(after) = sum.checked_add(usage.amount) else { return false };
        let within = after <= usage.max;
        if within || usage.exceeded != Verdict::Deny {
            *sum = after;
        }
        within
    }
}
