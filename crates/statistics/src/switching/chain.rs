//! The long run of a sampling plan, solved exactly.
//!
//! CSP-1's closed form does not hold for this chain. Its cycle runs from the end of one pre-approval to the end of the
//! next: a stretch in normal, then tightened, which ends in normal again or in pre-approval. By renewal and reward, the
//! share of wrong and undetected actions is what a cycle leaves undetected divided by its length. The state
//! discontinued, in which nothing is executed, is left out: it only makes the share smaller.

use super::plan::{CLEAN_LOTS, LOT, Plan, PlanState};
use crate::sequential::solve;

/// No sampling plan meets the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no clearance keeps this limit: allow more undetected errors, audit more, or shorten the lag of verdicts"
)]
pub struct Unreachable;

/// One cycle at one error rate, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cycle {
    /// Actions executed at once.
    pub executed: f64,
    /// Of those, wrong and not audited.
    pub undetected: f64,
}

/// The number of error rates at which the limit is checked: from 0.1 % to 50 %, close enough together that no maximum
/// is missed.
const RATES: usize = 160;

fn rates() -> impl Iterator<Item = f64> {
    (0..RATES).map(|n| 0.001 * 500_f64.powf(n as f64 / (RATES - 1) as f64))
}

/// The longest practical clearance.
const LONGEST: f64 = 10_000.0;

/// The shortest clearance with which the share of undetected errors stays within the limit at every rate. With (q⁻ⁱ −
/// 1)/p actions in pre-approval on average until i in a row are clean (Feller, vol. 1, XIII.7), a rate requires i ≥
/// ln(1 + p·x)/−ln q, where x is the number of approvals that each cycle needs.
pub(super) fn clearance(plan: &Plan) -> Result<u32, Unreachable> {
    let mut longest: f64 = 1.0;
    for p in rates() {
        let cycle = Cycle::of(plan, p);
        let approved = cycle.undetected / plan.wanted.aoql - cycle.executed;
        longest = longest.max((p * approved.max(0.0)).ln_1p() / -(-p).ln_1p());
    }
    if longest.is_finite() && longest <= LONGEST { Ok(longest.ceil() as u32) } else { Err(Unreachable) }
}

impl Cycle {
    /// Solves the cycle at the error rate `p`.
    pub fn of(plan: &Plan, p: f64) -> Self {
        let normal = Normal::of(plan, p);
        let tightened = Tightened::of(plan, p);
        let (mut audits, mut returns) = (0.0, 0.0);
        for &(level, share) in &normal.exits {
            if let (Some(spent), Some(back)) =
                (tightened.audits.get(level as usize), tightened.returns.get(level as usize))
            {
                audits += share * spent;
                returns += share * back;
            }
        }
        // The mean number of stretches in normal until one does not return.
        let stretches = 1.0 / (1.0 - returns).max(f64::EPSILON);
        let (rare, often) = (plan.pi(PlanState::Normal), plan.pi(PlanState::Tightened));
        let (in_normal, in_tightened) = (stretches * normal.audits / rare, stretches * audits / often);
        // Until a verdict is known, actions go on as before: at the end of the cycle, and before each tightening.
        let lag = f64::from(plan.wanted.lag);
        let late = lag * (1.0 - rare) + stretches * lag * (often - rare);
        Self {
            executed: in_normal + in_tightened + lag,
            undetected: p * (in_normal * (1.0 - rare) + in_tightened * (1.0 - often) + late),
        }
    }

    /// The share of all actions that are wrong and undetected, with this clearance.
    pub fn undetected_share(&self, p: f64, clearance: u32) -> f64 {
        let approved = (-f64::from(clearance) * (-p).ln_1p()).exp_m1() / p;
        self.undetected / (approved + self.executed)
    }

    /// The same of an agent that makes no error while its actions are approved first, with this clearance: it errs at the
    /// cycle's rate only when it has been cleared. The limit does not hold for it.
    pub fn cheated_share(&self, clearance: u32) -> f64 {
        self.undetected / (f64::from(clearance) + self.executed)
    }
}

/// A stretch in normal, from level 0.
struct Normal {
    /// The mean number of audits in it.
    audits: f64,
    /// The levels at which it ends, with their probabilities.
    exits: Vec<(u32, f64)>,
}

impl Normal {
    /// The expected visits v of each level solve v = e₀ + Pᵀv.
    fn of(plan: &Plan, p: f64) -> Self {
        let levels = plan.tighten as usize;
        let mut matrix = vec![vec![0.0; levels + 1]; levels];
        for level in 0..levels {
            matrix[level][level] += 1.0;
            matrix[level.saturating_sub(1)][level] -= 1.0 - p;
            let up = level + plan.lattice.up as usize;
            if up < levels {
                matrix[up][level] -= p;
            }
        }
        matrix[0][levels] = 1.0;
        let [visits] = solve(matrix);
        let exits = visits.iter().zip(0_u32..).filter_map(|(visits, level)| {
            let up = level + plan.lattice.up;
            (up >= plan.tighten).then_some((up, visits * p))
        });
        Self { audits: visits.iter().sum(), exits: exits.collect() }
    }
}

/// A stretch in tightened, by the level at which it begins: the mean number of audits, and the probability that it ends
/// in normal.
struct Tightened {
    audits: Vec<f64>,
    returns: Vec<f64>,
}

impl Tightened {
    /// Lot by lot. A clean lot takes the level down by its length; from a dirty one the count of clean lots begins
    /// anew. With L_k the level after k clean lots and D the passage through a dirty lot,
    /// V(L) = Σ_k q^(30k)·(m(L_k) + Σ_L' D(L_k, L')·V(L')), and the same for the returns with q^150 alone.
    fn of(plan: &Plan, p: f64) -> Self {
        let levels = plan.back as usize;
        let lots: Vec<Lot> = (0..levels).map(|level| Lot::of(plan, p, level)).collect();
        let clean = (1.0 - p).powi(LOT as i32);
        let row = |level: usize| {
            let mut row = vec![0.0; levels + 2];
            row[level] = 1.0;
            for k in 0..CLEAN_LOTS {
                let share = clean.powi(k as i32);
                let lot = &lots[level.saturating_sub((k * LOT) as usize)];
                for (cell, dirty) in row.iter_mut().zip(&lot.dirty) {
                    *cell -= share * dirty;
                }
                row[levels] += share * lot.audits;
            }
            row[levels + 1] = clean.powi(CLEAN_LOTS as i32);
            row
        };
        let [audits, returns] = solve((0..levels).map(row).collect());
        Self { audits, returns }
    }
}

/// One lot from one level.
struct Lot {
    /// The mean number of its audits: fewer than all where the plan returns to pre-approval.
    audits: f64,
    /// The probability that it is not clean and ends at each level.
    dirty: Vec<f64>,
}

impl Lot {
    fn of(plan: &Plan, p: f64, level: usize) -> Self {
        let levels = plan.back as usize;
        let (mut dirty, mut clean, mut audits) = (vec![0.0; levels], 1.0, 0.0);
        for made in 0..LOT as usize {
            audits += clean + dirty.iter().sum::<f64>();
            let mut next = vec![0.0; levels];
            let mut add = |from: usize, share: f64| {
                let up = from + plan.lattice.up as usize;
                if up < levels {
                    next[up] += share;
                }
            };
            add(level.saturating_sub(made), clean * p);
            for (from, share) in dirty.iter().enumerate() {
                add(from, share * p);
            }
            for (from, share) in dirty.iter().enumerate() {
                next[from.saturating_sub(1)] += share * (1.0 - p);
            }
            clean *= 1.0 - p;
            dirty = next;
        }
        Self { audits, dirty }
    }
}
