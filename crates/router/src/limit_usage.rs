//! Cumulative limits while a batch is evaluated: the locked sums, and what the batch itself adds to them.

use std::collections::BTreeMap;

use countersign_core::{ids::ActionId, verdict::Verdict};
use countersign_policy::LimitUse;
use countersign_store::{
    StoreError, Transaction,
    limits::{self, BEYOND, LimitKey, Sums},
};
use rust_decimal::Decimal;

/// Sums by limit and key, and what each stored action has added to them before.
#[derive(Clone, Default)]
pub(crate) struct LimitUsage {
    sums: Sums,
}

/// A sum, and an action's part of it, as they were.
pub(crate) struct Before {
    sum: (LimitKey, Option<Decimal>),
    own: Option<(Option<Decimal>, (LimitKey, ActionId))>,
}

impl LimitUsage {
    /// Locks and reads the sums of these limits. What the actions in `stored` have added
    /// already does not count against them. Without limits it queries nothing.
    ///
    /// Lock order: the generation, then actions, then limits.
    pub(crate) async fn lock<'e>(
        tx: &Transaction,
        limits: impl Iterator<Item = &'e LimitUse>,
        stored: &[ActionId],
    ) -> Result<Self, StoreError> {
        let keys: BTreeMap<_, _> =
            limits.map(|usage| ((usage.limit.clone(), usage.key.clone()), usage.within)).collect();
        Ok(Self { sums: limits::sums(tx, &keys, stored).await? })
    }

    /// What [`LimitUsage::admits`] may change for this use.
    pub(crate) fn before(&self, usage: &LimitUse, action: Option<ActionId>) -> Before {
        let key = (usage.limit.clone(), usage.key.clone());
        let own = action.map(|action| (key.clone(), action));
        let own = own.map(|own| (self.sums.own.get(&own).copied(), own));
        Before { sum: (key.clone(), self.sums.all.get(&key).copied()), own }
    }

    /// Takes an admission back.
    pub(crate) fn restore(&mut self, before: Before) {
        let (key, sum) = before.sum;
        sum.map(|sum| self.sums.all.insert(key, sum));
        match before.own {
            Some((Some(amount), own)) => drop(self.sums.own.insert(own, amount)),
            Some((None, own)) => drop(self.sums.own.remove(&own)),
            None => {}
        }
    }

    /// Whether the action stays within the limit; a limit whose sum is not locked admits nothing. What the action
    /// adds replaces what it added before; an action that the limit denies adds nothing.
    pub(crate) fn admits(&mut self, usage: &LimitUse, action: Option<ActionId>) -> bool {
        let sums = &mut self.sums;
        let key = (usage.limit.clone(), usage.key.clone());
        let before = action.and_then(|action| sums.own.remove(&(key.clone(), action))).unwrap_or_default();
        let Some(sum) = sums.all.get_mut(&key) else { return false };
        // From there on the sum is not exact. It stays there, so that what leaves it does not bring it back.
        if *sum >= BEYOND || before > *sum {
            return false;
        }
        let others = *sum - before;
        let after = others.checked_add(usage.amount).map_or(BEYOND, |after| after.min(BEYOND));
        let within = after <= usage.max && after < BEYOND;
        let stays = within || usage.verdict_when_exceeded != Verdict::Deny;
        *sum = if stays { after } else { others };
        if let (Some(action), true) = (action, stays) {
            sums.own.insert((key, action), usage.amount);
        }
        within
    }
}

#[cfg(test)]
mod tests;
