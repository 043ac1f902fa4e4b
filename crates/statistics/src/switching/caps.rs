//! Caps on what nobody knows of the actions that were executed at once: beyond them all strata of an agent under a rule
//! return to pre-approval, whatever the findings say that have come.
//!
//! The chain that a plan is solved by ([`super::Cycle`]) assumes that findings are at most `lag` actions late, and that the
//! error rate stays as it is. The first two caps see to the former. The third holds whatever the agent does: the bound at
//! any time ([`crate::anytime`]) on its undetected errors must not exceed a number.
//!
//! **The window begins where the family was last demoted to pre-approval**, or was opened. From then on nothing is
//! executed at once until a stratum is cleared, and no later clearance of another stratum begins a new window: the bound
//! is a promise on a population from one fixed beginning on, made anew for each window.

use std::time::Duration;

use crate::{
    anytime::at_most,
    estimate::{ALPHA, Cell},
};

/// What has been executed at once in a window, by all strata of an agent under a rule that no operator has pinned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Actions and their audits, by inclusion probability.
    pub cells: Vec<Cell>,
    /// The oldest audit that is not settled.
    pub oldest: Option<Unsettled>,
}

/// An audit that is not settled: nobody has judged it, or a second auditor has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// How many actions of the window were drawn, selected or not, after it.
    pub behind: u64,
    /// How long ago it was drawn.
    pub age: Duration,
}

/// The caps of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Caps {
    /// How many actions may be executed at once after one whose audit is not settled.
    pub lag: u32,
    /// How long an audit may take to be settled.
    pub due: Duration,
    /// How many errors may be undetected; any number if `None`.
    pub at_most: Option<MostUndetected>,
}

/// How many errors may be undetected in a window: a number at first, a share of what was executed later.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MostUndetected {
    /// This many in any case: a share alone would be exceeded by the first action.
    pub errors: u64,
    /// This share of what was executed, 0 to 1, where that is more.
    pub rate: f64,
}

/// A cap that is exceeded, with what exceeds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// Too many actions were executed after one whose audit is not settled.
    Lag(Unsettled),
    /// An audit has not been settled for too long.
    Due(Unsettled),
    /// More errors than allowed may be undetected.
    AtMost {
        /// The bound at any time, with 95 % confidence.
        undetected: u64,
        /// How many are allowed.
        allowed: u64,
    },
}

impl Window {
    /// How many actions were executed at once.
    pub fn executed(&self) -> u64 {
        self.cells.iter().map(|cell| cell.executed).sum()
    }

    /// How many errors are undetected at most, at any time, with 95 % confidence.
    pub fn undetected(&self) -> u64 {
        at_most(&self.cells, ALPHA).undetected
    }
}

impl MostUndetected {
    /// How many are allowed among this many.
    pub fn of(&self, executed: u64) -> u64 {
        self.errors.max((self.rate * executed as f64) as u64)
    }

    /// What the bound comes to with draws of this probability if every audit is settled at once and finds nothing. A cap
    /// that is lower returns an agent that makes no errors.
    pub fn least(pi: f64) -> u64 {
        let executed = 1_000_000;
        let judged = (pi * executed as f64) as u64;
        at_most(&[Cell { pi, executed, judged, wrong: 0, missing: 0 }], ALPHA).undetected
    }
}

impl Caps {
    /// The cap that an audit exceeds which is not settled.
    pub fn overdue(&self, oldest: Unsettled) -> Option<Exceeded> {
        match oldest {
            late if late.behind > u64::from(self.lag) => Some(Exceeded::Lag(late)),
            late if late.age > self.due => Some(Exceeded::Due(late)),
            _ => None,
        }
    }

    /// The cap that is exceeded in a window.
    pub fn exceeded(&self, window: &Window) -> Option<Exceeded> {
        let overdue = window.oldest.and_then(|oldest| self.overdue(oldest));
        let too_many = || {
            let (allowed, undetected) = (self.at_most?.of(window.executed()), window.undetected());
            (undetected > allowed).then_some(Exceeded::AtMost { undetected, allowed })
        };
        overdue.or_else(too_many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { lag: 40, due: Duration::from_secs(3_600), at_most: None };

    fn unsettled(behind: u64, seconds: u64) -> Unsettled {
        Unsettled { behind, age: Duration::from_secs(seconds) }
    }

    fn window(wrong: u64, missing: u64) -> Window {
        let judged = 100 - missing;
        Window { cells: vec![Cell { pi: 0.1, executed: 1_000, judged, wrong, missing }], oldest: None }
    }

    #[test]
    fn an_audit_may_be_as_late_as_the_plan_assumes_and_no_later() {
        assert_eq!(CAPS.overdue(unsettled(40, 3_600)), None);
        assert_eq!(CAPS.overdue(unsettled(41, 0)), Some(Exceeded::Lag(unsettled(41, 0))));
        assert_eq!(CAPS.overdue(unsettled(0, 3_601)), Some(Exceeded::Due(unsettled(0, 3_601))));
        let late = Window { oldest: Some(unsettled(41, 0)), ..window(0, 1) };
        assert_eq!(CAPS.exceeded(&late), Some(Exceeded::Lag(unsettled(41, 0))));
        assert_eq!(CAPS.exceeded(&window(50, 0)), None, "nothing is late, and errors are the CUSUM's");
    }

    #[test]
    fn the_bound_at_any_time_is_capped_by_a_number_or_a_share_whichever_is_more() {
        let capped = |errors, rate| Caps { at_most: Some(MostUndetected { errors, rate }), ..CAPS };
        // 36 may be undetected although nothing was found.
        assert_eq!(capped(36, 0.0).exceeded(&window(0, 0)), None);
        let exceeded = Some(Exceeded::AtMost { undetected: 36, allowed: 35 });
        assert_eq!(capped(35, 0.0).exceeded(&window(0, 0)), exceeded);
        assert_eq!(capped(1, 0.04).exceeded(&window(0, 0)), None);
        assert!(capped(60, 0.0).exceeded(&window(3, 0)).is_some(), "errors were found");
        assert!(capped(60, 0.0).exceeded(&window(0, 3)).is_some(), "they may be once somebody judges");
        assert_eq!(capped(60, 0.0).exceeded(&Window::default()), None);
    }

    #[test]
    fn below_the_least_cap_even_a_flawless_agent_is_returned() {
        assert_eq!((MostUndetected::least(0.1), MostUndetected::least(1.0)), (36, 0));
        assert!(MostUndetected::least(0.02) > 150);
    }
}
