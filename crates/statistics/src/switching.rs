//! Switching rules: when a stratum of actions is approved first, and when it is executed at once and audited by sample.
//!
//! After Dodge's CSP-1, with steps in the manner of ISO 2859-1 (MIL-STD-105): a long enough run of approvals without an
//! error clears a stratum for execution with sampled audits; what the audits find brings it back.
//!
//! ```text
//!                  i approved in a row            CUSUM >= ln 20
//!   pre_approval ───────────────────────▶ normal ────────────────▶ tightened
//!     │ ▲                                 │  ▲ ◀──────────────────── │ │
//!     │ └─────────────────────────────────┘  5 clean lots of 30 audits │
//!     │ ▲      a confirmed critical error     CUSUM >= ln 100, or a critical error
//!     │ └──────────────────────────────────────────────────────────────┘
//!     └──▶ discontinued   5 clearances failed: nothing is executed until an operator resets it, to pre_approval
//! ```
//!
//! An agent chooses its versions and, by its arguments, its bands. So a demotion of one stratum moves all strata of the
//! agent under the rule, and the same events are counted over all of them together ([`AgentCounters`]).
//!
//! All of that follows findings. So that they come, and that an agent cannot do much harm before they do, caps on what is
//! not known ([`Caps`]) return all strata to pre-approval as well.

mod agent;
mod caps;
mod chain;
mod plan;

use serde::{Deserialize, Serialize};

pub use self::{
    agent::AgentCounters,
    caps::{Caps, Exceeded, MostUndetected, Unsettled, Window},
    chain::{Cycle, Unreachable},
    plan::{CLEAN_LOTS, FAILED_CLEARANCES, LOT, Plan, PlanState, TIGHTER, Wanted},
};

/// What moves a sampling plan from state to state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchingEvent {
    /// A reviewer approved an action as it was, or rejected or edited it.
    Reviewed {
        /// Whether the action was wrong.
        wrong: bool,
    },
    /// An audit has found wrong what a reviewer had approved as it was: the approval was no clean one.
    Overturned,
    /// A sampled audit has settled whether an action was wrong that was executed since the plan last left pre-approval.
    Audited {
        /// Whether the action was wrong.
        wrong: bool,
    },
    /// A second auditor confirmed a critical error.
    Critical,
    /// An operator resets a discontinued plan.
    Reset,
}

/// The state of a sampling plan with its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchingState {
    /// The state.
    pub state: PlanState,
    /// In pre-approval: approvals without an error in a row.
    pub clean: u32,
    /// In pre-approval: reviews since it began, or since a clearance last failed.
    pub reviews: u32,
    /// In pre-approval: failed clearances, each with enough reviews for one but too few clean ones in a row.
    pub failed: u32,
    /// In normal and tightened: the CUSUM's level.
    pub level: u32,
    /// In tightened: audits in the present lot.
    pub lot: u32,
    /// In tightened: whether one of them was wrong.
    pub lot_wrong: bool,
    /// In tightened: clean lots in a row.
    pub clean_lots: u32,
}

impl SwitchingState {
    /// The beginning of a state: all counters at zero.
    pub fn new(state: PlanState) -> Self {
        Self { state, clean: 0, reviews: 0, failed: 0, level: 0, lot: 0, lot_wrong: false, clean_lots: 0 }
    }

    /// A new stratum starts in the state of its strictest sibling, or in pre-approval if it has none.
    pub fn beside(siblings: impl IntoIterator<Item = PlanState>) -> Self {
        Self::new(siblings.into_iter().max().unwrap_or(PlanState::PreApproval))
    }

    /// The state after an event. An event without effect in this state, such as a late finding, changes nothing.
    #[must_use]
    pub fn after(self, plan: &Plan, event: SwitchingEvent) -> Self {
        match (self.state, event) {
            (PlanState::PreApproval, SwitchingEvent::Reviewed { wrong }) => self.reviewed(plan, wrong),
            // The review itself has been counted, and the clearance fails with the next that is wrong.
            (PlanState::PreApproval, SwitchingEvent::Overturned) => Self { clean: 0, ..self },
            (PlanState::Normal | PlanState::Tightened, SwitchingEvent::Audited { wrong }) => {
                self.audited(plan, wrong)
            }
            (PlanState::Normal | PlanState::Tightened, SwitchingEvent::Critical) => {
                Self::new(PlanState::PreApproval)
            }
            (PlanState::Discontinued, SwitchingEvent::Reset) => Self::new(PlanState::PreApproval),
            _ => self,
        }
    }

    fn reviewed(self, plan: &Plan, wrong: bool) -> Self {
        let clean = if wrong { 0 } else { self.clean + 1 };
        let reviews = self.reviews + 1;
        if clean >= plan.clearance {
            return Self::new(PlanState::Normal);
        }
        // A run that is still clean is not ended half-way.
        if reviews < plan.clearance || !wrong {
            return Self { clean, reviews, ..self };
        }
        match self.failed + 1 {
            FAILED_CLEARANCES => Self::new(PlanState::Discontinued),
            failed => Self { clean, reviews: 0, failed, ..self },
        }
    }

    fn audited(self, plan: &Plan, wrong: bool) -> Self {
        let level = plan.lattice.after(self.level, wrong);
        if level >= plan.back {
            return Self::new(PlanState::PreApproval);
        }
        if self.state == PlanState::Normal {
            let state = if level >= plan.tighten { PlanState::Tightened } else { PlanState::Normal };
            return Self { level, ..Self::new(state) };
        }
        let (lot, lot_wrong) = (self.lot + 1, self.lot_wrong || wrong);
        if lot < LOT {
            return Self { level, lot, lot_wrong, ..self };
        }
        match if lot_wrong { 0 } else { self.clean_lots + 1 } {
            CLEAN_LOTS => Self::new(PlanState::Normal),
            clean_lots => Self { level, clean_lots, ..Self::new(PlanState::Tightened) },
        }
    }
}

impl Plan {
    /// Solves the chain for what is wanted.
    ///
    /// # Errors
    /// Where no clearance of up to 10,000 keeps the limit, or `wanted` is invalid.
    pub fn solve(wanted: Wanted) -> Result<Self, Unreachable> {
        let plan = Self::with_clearance(wanted, 1).ok_or(Unreachable)?;
        Ok(Self { clearance: chain::clearance(&plan)?, ..plan })
    }
}

#[cfg(test)]
mod tests;
