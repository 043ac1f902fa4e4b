//! What all strata of one agent under one rule have shown together: versions, models and bands are what an agent says of
//! itself, so errors count against it under every name.
//!
//! ```text
//!   an event of one stratum ──▶ the stratum's own state ──stricter?──┐
//!                           └─▶ the agent's counters ──a threshold?──┴─▶ a demotion: it moves every stratum
//! ```
//!
//! A demotion moves all strata of the agent under the rule, and what begins later begins beside them. Each stratum leaves
//! the state that it was put into by its own record alone: a clearance of one clears none of its siblings.

use serde::{Deserialize, Serialize};

use super::{Plan, PlanState, SwitchingEvent, SwitchingState};

/// The counters of an agent under a rule, over all its strata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCounters {
    /// The audits of what was executed at once: always in normal or tightened.
    pub audits: SwitchingState,
    /// The reviews of what was approved first: always in pre-approval.
    pub reviews: SwitchingState,
}

impl Default for AgentCounters {
    fn default() -> Self {
        let (audits, reviews) = (PlanState::Normal, PlanState::PreApproval);
        Self { audits: SwitchingState::new(audits), reviews: SwitchingState::new(reviews) }
    }
}

impl AgentCounters {
    /// The counters after an event of any stratum, and the state into which it puts them all, if it does.
    ///
    /// They are those of a plan that had seen all of the agent's events. What loosens that plan loosens no stratum.
    #[must_use]
    pub fn after(self, plan: &Plan, event: SwitchingEvent) -> (Self, Option<PlanState>) {
        match event {
            SwitchingEvent::Reviewed { .. } | SwitchingEvent::Overturned => {
                let reviews = self.reviews.after(plan, event);
                match reviews.state {
                    PlanState::PreApproval => (Self { reviews, ..self }, None),
                    PlanState::Discontinued => (Self::default(), Some(PlanState::Discontinued)),
                    _ => (Self { reviews: Self::default().reviews, ..self }, None),
                }
            }
            SwitchingEvent::Audited { .. } | SwitchingEvent::Critical => {
                let audits = self.audits.after(plan, event);
                match audits.state {
                    PlanState::PreApproval => {
                        (self.demoted(PlanState::PreApproval), Some(PlanState::PreApproval))
                    }
                    state if state > self.audits.state => (Self { audits, ..self }, Some(state)),
                    _ => (Self { audits, ..self }, None),
                }
            }
            SwitchingEvent::Reset => (self, None),
        }
    }

    /// The counters after a demotion of all strata, also by one stratum's own record or by an operator: what was counted
    /// up to it has had its effect. Failed clearances are kept, so that a demotion does not excuse them.
    #[must_use]
    pub fn demoted(self, to: PlanState) -> Self {
        match to {
            PlanState::Normal | PlanState::Tightened => self,
            PlanState::PreApproval => {
                let reviews = SwitchingState { clean: 0, reviews: 0, ..self.reviews };
                Self { reviews, ..Self::default() }
            }
            PlanState::Discontinued => Self::default(),
        }
    }
}

impl SwitchingState {
    /// The state after a demotion of the agent to `to`: not looser than that. A run of clean approvals begins anew, so
    /// that no stratum is kept in reserve just before its clearance.
    #[must_use]
    pub fn demoted(self, to: PlanState) -> Self {
        match (self.state, to) {
            (PlanState::PreApproval, PlanState::PreApproval) => Self { clean: 0, reviews: 0, ..self },
            (PlanState::Normal, PlanState::Tightened) => Self { level: self.level, ..Self::new(to) },
            (state, to) if to > state => Self::new(to),
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests;
