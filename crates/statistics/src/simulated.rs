//! Simulations of what the statistics promise: seeded, so that each run is the same. Tests run small ones, `cargo xtask
//! simulate` large ones.

pub mod adversary;
pub mod comparisons;
pub mod designs;
pub mod scores;
pub mod stays;

use std::collections::VecDeque;

use super::{
    sequential::{EProcess, Lattice},
    switching::{Plan, PlanState, SwitchingEvent, SwitchingState},
};

/// Numbers of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): fast, and good enough to simulate with. Not for anything
/// that must be unpredictable.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with probability `p`.
    pub fn below(&mut self, p: f64) -> bool {
        self.unit() < p
    }
}

/// The share of runs of `audits` each, at exactly the limit `p0`, in which an e-process that is evaluated after every
/// audit ever reaches 95 %.
pub fn false_alarms(seed: u64, p0: f64, runs: u32, audits: u32) -> f64 {
    let mut dice = Dice::new(seed);
    let alarmed = (0..runs).filter(|_| {
        let mut process = EProcess::new(p0);
        (0..audits).any(|_| {
            process.observe(dice.below(p0));
            process.ln_value() >= 20_f64.ln()
        })
    });
    alarmed.count() as f64 / f64::from(runs)
}

/// How many audits a CUSUM takes on average, at the rate `p`, until it passes `h`.
pub fn run_length(seed: u64, lattice: &Lattice, h: f64, p: f64, runs: u32) -> f64 {
    let mut dice = Dice::new(seed);
    let audits: u64 = (0..runs)
        .map(|_| {
            let (mut level, mut audits) = (0, 0);
            while level < lattice.level(h) {
                level = lattice.after(level, dice.below(p));
                audits += 1;
            }
            audits
        })
        .sum();
    audits as f64 / f64::from(runs)
}

/// The share of `actions` that are wrong and undetected under a sampling plan, at the error rate `p`: each verdict
/// comes up to the plan's lag late, errors that are found are undone, and a discontinued plan is reset at once.
pub fn undetected(seed: u64, plan: &Plan, p: f64, actions: u32) -> f64 {
    let mut dice = Dice::new(seed);
    let mut plan_state = SwitchingState::new(PlanState::PreApproval);
    let (mut verdicts, mut stretch, mut undetected) = (VecDeque::new(), 0_u32, 0_u32);
    for now in 0..actions {
        while verdicts.front().is_some_and(|(due, _, _)| *due <= now) {
            if let Some((_, of, wrong)) = verdicts.pop_front().filter(|(_, of, _)| *of == stretch) {
                plan_state = plan_state.after(plan, SwitchingEvent::Audited { wrong });
                stretch = if plan_state.state == PlanState::PreApproval { of + 1 } else { of };
            }
        }
        let wrong = dice.below(p);
        match plan_state.state {
            PlanState::Discontinued => plan_state = plan_state.after(plan, SwitchingEvent::Reset),
            PlanState::PreApproval => plan_state = plan_state.after(plan, SwitchingEvent::Reviewed { wrong }),
            state if dice.below(plan.pi(state)) => {
                // Never before the verdict on an earlier draw: verdicts come in order.
                let due = now + (dice.unit() * f64::from(plan.wanted.lag)) as u32;
                let due = verdicts.back().map_or(due, |(before, _, _): &(u32, u32, bool)| due.max(*before));
                verdicts.push_back((due, stretch, wrong));
            }
            _ => undetected += u32::from(wrong),
        }
    }
    f64::from(undetected) / f64::from(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_with_the_first_error_has_too_many_and_half_of_it_all_has_not() {
        let (mut dice, rate, runs, audits) = (Dice::new(5), 0.01, 1_000, 1_000);
        let (mut before, mut earlier) = (0.0, 0.0);
        for _ in 0..runs {
            let wrong: Vec<bool> = (0..audits).map(|_| dice.below(rate)).collect();
            let first = wrong.iter().position(|wrong| *wrong);
            before += first.map_or(0.0, |first| 1.0 / (first + 1) as f64);
            let half = &wrong[..audits / 2];
            earlier += half.iter().filter(|wrong| **wrong).count() as f64 / half.len() as f64;
        }
        let [before, earlier] = [before, earlier].map(|sum| sum / f64::from(runs) / rate);
        // ln(1 / 0.01) is 4.6.
        assert!((4.0..5.5).contains(&before), "{before} times the rate before the first error");
        assert!((earlier - 1.0).abs() < 0.05, "{earlier} times the rate in the earlier half");
    }
}
