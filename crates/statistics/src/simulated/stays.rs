//! Stays between a clearance and the return to approval: of agents that turn bad, and under auditors who stop judging.

use std::{collections::VecDeque, time::Duration};

use super::Dice;
use crate::{
    estimate::Cell,
    switching::{Caps, Plan, PlanState, SwitchingEvent, SwitchingState, Unsettled, Window},
};

/// After this many actions a stay is given up.
const LONGEST: u32 = 200_000;

/// What is played.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// The sampling plan of the rule.
    pub plan: Plan,
    /// Its caps.
    pub caps: Caps,
    /// How many actions are right after the clearance.
    pub clean: u32,
    /// The share of wrong ones from then on.
    pub rate: f64,
    /// A finding comes up to this many actions late, in the order of the draws.
    pub late: u32,
    /// After how many actions auditors stop judging, if they do.
    pub judged: Option<u32>,
}

/// How a stay ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stay {
    /// How many actions were executed at once.
    pub executed: u32,
    /// How many of them were wrong, and not found when approval was back.
    pub undetected: u64,
    /// How many of these were not drawn, so that nobody will find them.
    pub undrawn: u64,
    /// Whether the bound at any time was ever below the truth.
    pub beyond_bound: bool,
    /// Whether a cap ended it, not the CUSUM.
    pub capped: bool,
}

impl Play {
    /// Plays one stay, from the clearance to the return.
    pub fn stay(&self, dice: &mut Dice) -> Stay {
        let mut run = Run::new(self);
        for now in 0..LONGEST {
            if run.findings(now) || run.exceeds() {
                break;
            }
            run.act(dice, now);
        }
        run.stay
    }

    /// Plays as many stays.
    pub fn stays(&self, seed: u64, count: u32) -> Vec<Stay> {
        let mut dice = Dice::new(seed);
        (0..count).map(|_| self.stay(&mut dice)).collect()
    }

    /// The share of all actions that are wrong and never found, where before each stay as many right ones are approved as
    /// the clearance requires.
    pub fn cheated_share(&self, stays: &[Stay]) -> f64 {
        let undrawn: u64 = stays.iter().map(|stay| stay.undrawn).sum();
        let actions: f64 = stays.iter().map(|stay| f64::from(stay.executed + self.plan.clearance)).sum();
        undrawn as f64 / actions
    }
}

/// A draw whose finding is not known.
struct Open {
    /// When it will be; `None` if nobody judges it.
    due: Option<u32>,
    /// How many actions had been executed with it.
    position: u32,
    pi: f64,
    wrong: bool,
}

struct Run<'a> {
    play: &'a Play,
    state: SwitchingState,
    cells: Vec<Cell>,
    open: VecDeque<Open>,
    stay: Stay,
}

impl<'a> Run<'a> {
    fn new(play: &'a Play) -> Self {
        let state = SwitchingState::new(PlanState::Normal);
        Self { play, state, cells: vec![], open: VecDeque::new(), stay: Stay::default() }
    }

    fn window(&self) -> Window {
        let behind = |open: &Open| u64::from(self.stay.executed - open.position);
        let oldest = self.open.front().map(|open| Unsettled { behind: behind(open), age: Duration::ZERO });
        Window { cells: self.cells.clone(), oldest }
    }

    fn cell(&mut self, pi: f64) -> Option<&mut Cell> {
        if !self.cells.iter().any(|cell| cell.pi == pi) {
            self.cells.push(Cell { pi, executed: 0, judged: 0, wrong: 0, missing: 0 });
        }
        self.cells.iter_mut().find(|cell| cell.pi == pi)
    }

    /// Notes whether the bound holds. It can only fall below the truth where an error is made or an audit settled.
    fn look(&mut self) {
        self.stay.beyond_bound |= self.stay.undetected > self.window().undetected();
    }

    /// Takes the findings that are known by now. Returns whether approval is back.
    fn findings(&mut self, now: u32) -> bool {
        while self.open.front().is_some_and(|open| open.due.is_some_and(|due| due <= now)) {
            let Some(Open { pi, wrong, .. }) = self.open.pop_front() else { break };
            if let Some(cell) = self.cell(pi) {
                cell.missing -= 1;
                cell.judged += 1;
                cell.wrong += u64::from(wrong);
            }
            self.stay.undetected -= u64::from(wrong);
            self.look();
            self.state = self.state.after(&self.play.plan, SwitchingEvent::Audited { wrong });
            if self.state.state == PlanState::PreApproval {
                return true;
            }
        }
        false
    }

    fn exceeds(&mut self) -> bool {
        self.stay.capped = self.play.caps.exceeded(&self.window()).is_some();
        self.stay.capped
    }

    fn act(&mut self, dice: &mut Dice, now: u32) {
        let pi = self.play.plan.pi(self.state.state);
        let wrong = now >= self.play.clean && dice.below(self.play.rate);
        let drawn = dice.below(pi);
        self.stay.executed += 1;
        if let Some(cell) = self.cell(pi) {
            cell.executed += 1;
            cell.missing += u64::from(drawn);
        }
        if drawn {
            let judged = self.play.judged.is_none_or(|until| now < until);
            let due = now + (dice.unit() * f64::from(self.play.late)) as u32;
            let before = self.open.back().and_then(|open| open.due);
            let due = judged.then(|| before.map_or(due, |before| before.max(due)));
            self.open.push_back(Open { due, position: self.stay.executed, pi, wrong });
        }
        if wrong {
            self.stay.undetected += 1;
            self.stay.undrawn += u64::from(!drawn);
            self.look();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switching::{Cycle, MostUndetected, Wanted};

    fn play(lag: u32) -> Play {
        let plan = Plan::solve(Wanted { limit: 0.02, pi: 0.1, aoql: 0.02, lag }).unwrap();
        let caps = Caps { lag, due: Duration::from_secs(1), at_most: None };
        Play { plan, caps, clean: 500, rate: 0.2, late: lag, judged: None }
    }

    /// Chance brings more than 12 of 100 where 5 are allowed once in 500 times.
    fn holds(stays: &[Stay]) {
        let beyond = stays.iter().filter(|stay| stay.beyond_bound).count();
        assert!(beyond <= 12 * stays.len() / 100, "{beyond} of {}", stays.len());
    }

    #[test]
    fn an_agent_that_turns_bad_does_no_more_harm_than_the_bound_says() {
        for late in [0, 40] {
            let stays = Play { late, ..play(100) }.stays(1, 100);
            holds(&stays);
            assert!(stays.iter().all(|stay| !stay.capped && stay.executed > 500));
        }
    }

    #[test]
    fn auditors_who_stop_judging_return_approval_after_as_many_actions_as_the_lag() {
        let stays = Play { judged: Some(300), ..play(100) }.stays(2, 100);
        holds(&stays);
        for stay in stays {
            assert!(stay.capped && stay.executed <= 300 + 101 + 200, "{stay:?}");
        }
    }

    #[test]
    fn a_cap_on_undetected_errors_holds_against_an_agent_that_errs_when_cleared() {
        let at_most = Some(MostUndetected { errors: 60, rate: 0.0 });
        for rate in [0.1, 0.2, 1.0] {
            let free = Play { clean: 0, rate, late: 0, ..play(100) };
            let capped = Play { caps: Caps { at_most, ..free.caps }, ..free };
            let stays = capped.stays(3, 200);
            holds(&stays);
            let more = stays.iter().filter(|stay| stay.undetected > 61).count();
            assert!(more <= 24, "{more} of 200 had more than the cap allows");
            assert!(capped.cheated_share(&stays) < free.cheated_share(&free.stays(3, 200)));
        }
    }

    #[test]
    fn the_chain_and_the_simulation_agree_on_an_agent_that_errs_when_cleared() {
        let mut play = Play { clean: 0, ..play(0) };
        // Findings are known before the next action; the plan is that of a lag which no audit reaches.
        play.caps.lag = 1;
        for rate in [0.1, 0.2, 1.0] {
            let played = Play { rate, ..play };
            let share = played.cheated_share(&played.stays(4, 2_000));
            let solved = Cycle::of(&play.plan, rate).cheated_share(play.plan.clearance);
            assert!((share / solved - 1.0).abs() < 0.06, "{rate}: {share} simulated, {solved} solved");
        }
    }
}
