//! A sampling plan: its numbers, and the states that it can be in.

use serde::{Deserialize, Serialize};

use crate::sequential::Lattice;

/// Audits in a lot.
pub const LOT: u32 = 30;
/// Clean lots in a row that end the state tightened.
pub const CLEAN_LOTS: u32 = 5;
/// Failed clearances after which a plan is discontinued.
pub const FAILED_CLEARANCES: u32 = 5;
/// The factor on the audit rate in the state tightened.
pub const TIGHTER: f64 = 3.0;
/// The rate that the CUSUM detects, as a multiple of the limit.
const RATIO: f64 = 3.0;

/// What a rule demands of the sampling plan of a stratum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// The acceptable error rate, p0: above 0, below 1/3.
    pub limit: f64,
    /// The inclusion probability in the state normal: above 0, at most 1.
    pub pi: f64,
    /// The largest share of all actions, in the long run, that may be wrong and undetected, at any error rate that stays
    /// as it is: the average outgoing quality limit.
    pub aoql: f64,
    /// The lag of findings: at most this many actions are executed before the finding on one is known. [`Caps::lag`](super::Caps::lag)
    /// enforces it.
    pub lag: u32,
}

/// The numbers of a sampling plan, solved so that [`Wanted::aoql`] holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// What the plan must achieve.
    pub wanted: Wanted,
    /// i: the approvals in a row without an error that end pre-approval.
    pub clearance: u32,
    /// The CUSUM's steps: the limit against three times that.
    pub lattice: Lattice,
    /// The CUSUM's level that ends the state normal: ln 20.
    pub tighten: u32,
    /// The CUSUM's level that returns the plan to pre-approval: ln 100.
    pub back: u32,
}

impl Plan {
    /// A plan with this clearance, which may not keep the limit. `None` if `wanted` is invalid.
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
        (self.wanted.pi * state.tighter()).min(1.0)
    }
}

/// The state of a sampling plan, least strict first.
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
    /// Whether actions are executed at once, without approval.
    pub fn executes(self) -> bool {
        matches!(self, Self::Normal | Self::Tightened)
    }

    /// By how much it raises the rate of audits.
    pub fn tighter(self) -> f64 {
        if self == PlanState::Tightened { TIGHTER } else { 1.0 }
    }

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
