//! Agents that know what was drawn and found, and err when it suits them.

use std::collections::{BTreeMap, VecDeque};

use super::Dice;
use crate::{
    anytime::at_most,
    estimate::{ALPHA, Cell},
};

/// The probabilities of the draw: less where nothing was found of late.
const PI: [f64; 2] = [0.1, 0.3];

/// How many actions after a wrong finding are drawn with the larger one.
const CAREFUL: u32 = 100;

/// Actions a day: the bound is looked at each evening.
const DAY: u32 = 50;

/// How an agent errs. It is lucky while fewer of its errors were drawn than had to be expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agent {
    /// The share of its actions that is wrong while it is lucky.
    pub lucky: f64,
    /// The share otherwise.
    pub otherwise: f64,
    /// How many actions later a finding is known. A draw without a finding counts as an error.
    pub delay: u32,
}

/// Agents that would exceed a bound if any did: careful when found out, never careful, and slowly judged.
pub const AGENTS: [Agent; 4] = [
    Agent { lucky: 0.5, otherwise: 0.01, delay: 0 },
    Agent { lucky: 1.0, otherwise: 0.0, delay: 0 },
    Agent { lucky: 1.0, otherwise: 1.0, delay: 0 },
    Agent { lucky: 0.5, otherwise: 0.01, delay: 40 },
];

/// The share of runs in which the bound at any time, looked at after each of `days`, is ever exceeded.
pub fn ever_exceeded(seed: u64, agent: Agent, runs: u32, days: u32) -> f64 {
    let mut dice = Dice::new(seed);
    let exceeded: u32 = (0..runs).map(|_| u32::from(Run::of(agent).exceeds(&mut dice, days))).sum();
    f64::from(exceeded) / f64::from(runs)
}

struct Run {
    agent: Agent,
    /// By the bits of π.
    cells: BTreeMap<u64, Cell>,
    errors: u64,
    found: u64,
    /// How many more errors had to be expected among the drawn than were drawn.
    luck: f64,
    /// Draws whose findings are not known: when they will be, with which π, whether wrong.
    open: VecDeque<(u32, u64, bool)>,
    careful_until: u32,
}

impl Run {
    fn of(agent: Agent) -> Self {
        let (cells, open) = (BTreeMap::new(), VecDeque::new());
        Self { agent, cells, errors: 0, found: 0, luck: 0.0, open, careful_until: 0 }
    }

    fn exceeds(&mut self, dice: &mut Dice, days: u32) -> bool {
        (0..days).any(|day| {
            for now in day * DAY..(day + 1) * DAY {
                self.judge(now);
                self.act(dice, now);
            }
            self.judge((day + 1) * DAY);
            let cells: Vec<Cell> = self.cells.values().copied().collect();
            self.errors - self.found > at_most(&cells, ALPHA).undetected
        })
    }

    fn judge(&mut self, now: u32) {
        while self.open.front().is_some_and(|(due, _, _)| *due <= now) {
            let Some((_, pi, wrong)) = self.open.pop_front() else { break };
            if let Some(cell) = self.cells.get_mut(&pi) {
                cell.missing -= 1;
                cell.judged += 1;
                cell.wrong += u64::from(wrong);
            }
            self.found += u64::from(wrong);
            if wrong {
                self.careful_until = now + CAREFUL;
            }
        }
    }

    fn act(&mut self, dice: &mut Dice, now: u32) {
        let pi = PI[usize::from(now < self.careful_until)];
        let wrong = dice.below(if self.luck >= 0.0 { self.agent.lucky } else { self.agent.otherwise });
        let drawn = dice.below(pi);
        let unseen = Cell { pi, executed: 0, judged: 0, wrong: 0, missing: 0 };
        let cell = self.cells.entry(pi.to_bits()).or_insert(unseen);
        cell.executed += 1;
        cell.missing += u64::from(drawn);
        if drawn {
            self.open.push_back((now + self.agent.delay, pi.to_bits(), wrong));
        }
        if wrong {
            self.errors += 1;
            self.luck += pi - f64::from(u8::from(drawn));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_agent_exceeds_the_bound_in_more_than_one_of_twenty_runs() {
        for agent in AGENTS {
            let share = ever_exceeded(1, agent, 100, 40);
            // At 5 %, more than 13 of 100 come once in a thousand times.
            assert!(share <= 0.13, "{agent:?}: {share}");
        }
    }
}
