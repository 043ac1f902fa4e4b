//! The states of sampling plans under one generation.

use std::collections::HashMap;

use countersign_core::stratum::{family_of, shared};
use countersign_statistics::switching::{PlanState, SwitchingState};
use countersign_store::sampling_plans::STRATA_MAX;

/// The states of all plans, by family and stratum.
#[derive(Default)]
pub(crate) struct Plans(HashMap<String, HashMap<String, PlanState>>);

/// The sampling plan of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionPlan {
    /// The stratum whose plan it is: the action's own, or the one that is shared.
    pub stratum: String,
    /// Its state.
    pub state: PlanState,
    /// Whether it is still to be opened.
    pub new: bool,
}

impl FromIterator<(String, PlanState)> for Plans {
    fn from_iter<I: IntoIterator<Item = (String, PlanState)>>(plans: I) -> Self {
        let mut all: HashMap<String, HashMap<String, PlanState>> = HashMap::new();
        for (stratum, state) in plans {
            all.entry(family_of(&stratum).to_owned()).or_default().insert(stratum, state);
        }
        Self(all)
    }
}

impl Plans {
    /// The plan of an action in `stratum`.
    ///
    /// A stratum without one begins in the state of its strictest sibling, and not looser than pre-approval where the
    /// directory does not list the agent's version. Beyond [`STRATA_MAX`] plans, those without one share a plan, which
    /// begins in pre-approval too, because it is of no version in particular.
    pub(crate) fn of(&self, stratum: String, listed: bool) -> ActionPlan {
        let Some(siblings) = self.0.get(family_of(&stratum)) else {
            return ActionPlan { stratum, state: SwitchingState::beside([]).state, new: true };
        };
        if let Some(state) = siblings.get(&stratum) {
            return ActionPlan { stratum, state: *state, new: false };
        }
        let begins = |known: bool| {
            let floor = if known { PlanState::Normal } else { PlanState::PreApproval };
            SwitchingState::beside(siblings.values().copied()).state.max(floor)
        };
        if siblings.len() < STRATA_MAX {
            return ActionPlan { stratum, state: begins(listed), new: true };
        }
        let stratum = shared(family_of(&stratum));
        match siblings.get(&stratum) {
            // It may have been cleared by other versions.
            Some(state) if listed => ActionPlan { stratum, state: *state, new: false },
            Some(state) => ActionPlan { stratum, state: (*state).max(PlanState::PreApproval), new: false },
            None => ActionPlan { stratum, state: begins(false), new: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(states: &[(&str, PlanState)]) -> Plans {
        states.iter().map(|(stratum, state)| ((*stratum).to_owned(), *state)).collect()
    }

    fn begins(plans: &Plans, listed: bool) -> PlanState {
        let plan = plans.of("pay/send/bot@9".into(), listed);
        assert!(plan.new && plan.stratum == "pay/send/bot@9");
        plan.state
    }

    #[test]
    fn a_new_version_begins_where_its_strictest_sibling_is() {
        use PlanState::{Discontinued, Normal, PreApproval};
        assert_eq!(begins(&plans(&[]), true), PreApproval);
        assert_eq!(begins(&plans(&[("pay/send/bot@1", Normal)]), true), Normal);
        let both = [("pay/send/bot@1", Normal), ("pay/send/bot@2/small", PreApproval)];
        assert_eq!(begins(&plans(&both), true), PreApproval);
        let others = [
            ("pay/send/bot@1", Normal),
            ("pay/send/bot-2@1", Discontinued),
            ("pay/take/bot@1", Discontinued),
        ];
        assert_eq!(begins(&plans(&others), true), Normal);
    }

    #[test]
    fn a_version_that_is_not_listed_begins_in_pre_approval_and_has_then_a_plan_like_any_other() {
        use PlanState::{Discontinued, Normal, PreApproval};
        assert_eq!(begins(&plans(&[("pay/send/bot@1", Normal)]), false), PreApproval);
        assert_eq!(begins(&plans(&[("pay/send/bot@1", Discontinued)]), false), Discontinued);
        let known = plans(&[("pay/send/bot@9", Normal)]).of("pay/send/bot@9".into(), false);
        assert_eq!((known.state, known.new), (Normal, false));
    }

    #[test]
    fn beyond_the_bound_the_others_share_a_plan_that_begins_in_pre_approval() {
        let full = |more: &[(&str, PlanState)]| -> Plans {
            let own = (0..STRATA_MAX).map(|n| (format!("pay/send/bot@v{n}"), PlanState::Normal));
            own.chain(more.iter().map(|(stratum, state)| ((*stratum).to_owned(), *state))).collect()
        };
        let of = |plans: &Plans, listed: bool| plans.of("pay/send/bot@9".into(), listed);
        let shared = |state, new| ActionPlan { stratum: "pay/send/bot@*".into(), state, new };
        assert_eq!(of(&full(&[]), true), shared(PlanState::PreApproval, true));
        let cleared = full(&[("pay/send/bot@*", PlanState::Normal)]);
        assert_eq!(of(&cleared, true), shared(PlanState::Normal, false));
        assert_eq!(of(&cleared, false), shared(PlanState::PreApproval, false));
        assert_eq!(cleared.of("pay/send/bot@v7".into(), true).state, PlanState::Normal);
    }
}
