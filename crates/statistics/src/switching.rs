//! Switching a class of actions between approval and audit.
//!
//! After Dodge's CSP-1, with steps in the manner of ISO 2859-1: what is approved without an error for long enough is
//! executed at once and audited by sample; what the audits find brings it back.
//!
//! ```text
//!         i approved in a row                CUSUM ≥ ln 20
//!   PRE ──────────────────────▶ NORMAL ───────────────────▶ TIGHT
//!   │ ▲                          │  ▲ ◀─────────────────────│ │
//!   │ └──────────────────────────┘  5 clean lots of 30 audits │
//!   │ ▲     a critical error, confirmed          CUSUM ≥ ln 100, or a critical error
//!   │ └───────────────────────────────────────────────────────┘
//!   └──▶ HOLD   5 clearances failed: nothing is executed until an operator resets it, to PRE
//! ```

mod chain;

use serde::{Deserialize, Serialize};

use super::sequential::Lattice;

pub use chain::{Cycle, Unreachable};

/// Audits in a lot.
pub const LOT: u32 = 30;
/// Clean lots in a row that end TIGHT.
pub const CLEAN_LOTS: u32 = 5;
/// Failed clearances that end PRE in HOLD.
pub const FAILED_CLEARANCES: u32 = 5;
/// How much more is audited in TIGHT.
pub const TIGHTER: f64 = 3.0;
/// How much higher a rate the CUSUM looks for than the limit.
const RATIO: f64 = 3.0;

/// What a rule wants of a class of actions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// The error rate that is put up with, p0: above 0, below 1/3.
    pub limit: f64,
    /// The inclusion probability of an audit in NORMAL: above 0, at most 1.
    pub pi: f64,
    /// The largest share of all actions, in the long run, that may be wrong and undetected, whatever the error rate:
    /// the average outgoing quality limit.
    pub aoql: f64,
    /// So many actions are executed at most before a verdict on one is known.
    pub lag: u32,
}

/// The numbers of the switch, solved so that [`Wanted::aoql`] holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// What they are for.
    pub wanted: Wanted,
    /// i: approvals without an error in a row that end PRE.
    pub clearance: u32,
    /// The CUSUM's steps: its limit against three times that.
    pub lattice: Lattice,
    /// The level that ends NORMAL: ln 20.
    pub tighten: u32,
    /// The level that goes back to PRE: ln 100.
    pub back: u32,
}

/// Where a class of actions stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    /// Executed at once, audited at the rule's rate.
    Normal,
    /// Executed at once, audited three times as often.
    Tightened,
    /// Every action is approved first.
    PreApproval,
    /// Nothing is executed.
    Discontinued,
}

impl PlanState {
    /// The word used in the database, in messages and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            PlanState::Normal => "normal",
            PlanState::Tightened => "tightened",
            PlanState::PreApproval => "pre_approval",
            PlanState::Discontinued => "discontinued",
        }
    }
}

impl std::str::FromStr for PlanState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [PlanState::Normal, PlanState::Tightened, PlanState::PreApproval, PlanState::Discontinued];
        let known = all.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is not the state of a sampling plan; write normal, tightened, pre_approval or discontinued"))
    }
}

/// What happens to a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchingEvent {
    /// A human approved an action as it was, or turned it down or edited it.
    Reviewed {
        /// Whether it was wrong.
        wrong: bool,
    },
    /// An executed action, drawn by the coin in the present stretch since PRE, was judged.
    Audited {
        /// Whether it was wrong.
        wrong: bool,
    },
    /// A second auditor confirmed a critical error.
    Critical,
    /// An operator resets a class in HOLD.
    Reset,
}

/// A class of actions and what is remembered of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchingState {
    /// Where it stands.
    pub state: PlanState,
    /// In PRE: approvals without an error in a row.
    pub clean: u32,
    /// In PRE: reviews since it began, or since a clearance last failed.
    pub reviews: u32,
    /// In PRE: clearances that failed: as many reviews as a clearance takes, and none reached.
    pub failed: u32,
    /// In NORMAL and TIGHT: the CUSUM's level.
    pub level: u32,
    /// In TIGHT: audits in the present lot.
    pub lot: u32,
    /// In TIGHT: whether one of them was wrong.
    pub lot_wrong: bool,
    /// In TIGHT: clean lots in a row.
    pub clean_lots: u32,
}

impl SwitchingState {
    /// At the beginning of a state.
    pub fn new(state: PlanState) -> Self {
        Self { state, clean: 0, reviews: 0, failed: 0, level: 0, lot: 0, lot_wrong: false, clean_lots: 0 }
    }

    /// A new class starts where the strictest of its siblings stands, and without any in PRE.
    pub fn beside(siblings: impl IntoIterator<Item = PlanState>) -> Self {
        Self::new(siblings.into_iter().max().unwrap_or(PlanState::PreApproval))
    }

    /// The class after what happened. What has no place in its state, such as a late verdict, changes nothing.
    #[must_use]
    pub fn after(self, plan: &Plan, happened: SwitchingEvent) -> Self {
        match (self.state, happened) {
            (PlanState::PreApproval, SwitchingEvent::Reviewed { wrong }) => self.reviewed(plan, wrong),
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
        // A run that is still clean is not given up half-way.
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
    /// Where no clearance of up to 10,000 keeps the limit, or the numbers make no sense.
    pub fn solve(wanted: Wanted) -> Result<Self, Unreachable> {
        let plan = Self::with_clearance(wanted, 1).ok_or(Unreachable)?;
        Ok(Self { clearance: chain::clearance(&plan)?, ..plan })
    }

    /// With a clearance that is given, and may or may not keep the limit. None where the numbers make no sense.
    pub fn with_clearance(wanted: Wanted, clearance: u32) -> Option<Self> {
        let sensible = wanted.limit > 0.0
            && wanted.limit * RATIO < 1.0
            && wanted.pi > 0.0
            && wanted.pi <= 1.0
            && wanted.aoql > 0.0;
        if !sensible {
            return None;
        }
        let lattice = Lattice::new(wanted.limit, wanted.limit * RATIO);
        let (tighten, back) = (lattice.level(20_f64.ln()), lattice.level(100_f64.ln()));
        Some(Self { wanted, clearance, lattice, tighten, back })
    }

    /// The inclusion probability in a state that executes at once.
    pub fn pi(&self, state: PlanState) -> f64 {
        match state {
            PlanState::Tightened => (self.wanted.pi * TIGHTER).min(1.0),
            _ => self.wanted.pi,
        }
    }
}

#[cfg(test)]
mod tests;
