//! Tests that stay valid however often they are evaluated.

use statrs::function::beta::{beta_reg, ln_beta};

/// An e-process against "the rate is at most p0": a likelihood ratio mixed over the rates above p0 with a beta prior.
///
/// For every rate up to p0 it is a non-negative supermartingale that starts at 1, so by Ville's inequality it ever
/// reaches 1/α with probability α at most, however often it is evaluated (Ramdas et al., Statistical Science 38, 2023).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EProcess {
    p0: f64,
    a: f64,
    b: f64,
    wrong: u64,
    right: u64,
}

impl EProcess {
    /// Against a rate of at most `p0`, between 0 and 1. The prior is uniform above it.
    pub fn new(p0: f64) -> Self {
        Self { p0: p0.clamp(1e-9, 1.0 - 1e-9), a: 1.0, b: 1.0, wrong: 0, right: 0 }
    }

    /// Takes one finding into account.
    pub fn observe(&mut self, wrong: bool) {
        if wrong { self.wrong += 1 } else { self.right += 1 }
    }

    /// The evidence so far, as a natural logarithm; from ln 20 on, the rate is above p0 with 95 % confidence.
    pub fn ln_value(&self) -> f64 {
        let (wrong, right) = (self.wrong as f64, self.right as f64);
        let above = |a: f64, b: f64| (1.0 - beta_reg(a, b, self.p0)).max(f64::MIN_POSITIVE).ln();
        let (a, b) = (self.a + wrong, self.b + right);
        ln_beta(a, b) + above(a, b)
            - ln_beta(self.a, self.b)
            - above(self.a, self.b)
            - wrong * self.p0.ln()
            - right * (-self.p0).ln_1p()
    }
}

/// The steps of a Bernoulli CUSUM on a lattice: a right finding is one step down, never below 0, and a wrong one
/// [`Lattice::up`] steps up. A step is the log-likelihood ratio of a right finding between p1 and p0 (Reynolds and
/// Stoumbos, Journal of Quality Technology 31, 1999); rounding the other to whole steps makes the chain finite, so that
/// it can be solved and not only simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lattice {
    /// Steps up for a wrong finding.
    pub up: u32,
    /// The length of a step.
    pub step: f64,
}

impl Lattice {
    /// For the limit `p0` against `p1`, with 0 < p0 < p1 < 1.
    pub fn new(p0: f64, p1: f64) -> Self {
        let step = ((1.0 - p0) / (1.0 - p1)).ln();
        Self { up: ((p1 / p0).ln() / step).round().max(1.0) as u32, step }
    }

    /// The level at which the sum passes `h`.
    pub fn level(&self, h: f64) -> u32 {
        (h / self.step).ceil() as u32
    }

    /// The level after a finding.
    pub fn after(&self, level: u32, wrong: bool) -> u32 {
        if wrong { level + self.up } else { level.saturating_sub(1) }
    }

    /// How many findings, in order, had come when the sum was last at zero: whatever it shows now began after them.
    pub fn last_zero(&self, findings: impl IntoIterator<Item = bool>) -> usize {
        let (mut level, mut zero) = (0, 0);
        for (index, wrong) in findings.into_iter().enumerate() {
            level = self.after(level, wrong);
            if level == 0 {
                zero = index + 1;
            }
        }
        zero
    }
}

/// Audits until the sum passes `h` at the rate `p`, on average, from level 0: the solution of the linear equations of
/// the chain (Brook and Evans, Biometrika 59, 1972).
pub fn average_run_length(lattice: &Lattice, h: f64, p: f64) -> f64 {
    let levels = lattice.level(h) as usize;
    let mut matrix = vec![vec![0.0; levels + 1]; levels];
    for (level, row) in matrix.iter_mut().enumerate() {
        row[level] += 1.0;
        row[level.saturating_sub(1)] -= 1.0 - p;
        let up = level + lattice.up as usize;
        if up < levels {
            row[up] -= p;
        }
        row[levels] = 1.0;
    }
    let [audits] = solve(matrix);
    audits.first().copied().unwrap_or(0.0)
}

/// Solves linear equations, given with `N` right-hand sides as the last columns, by Gaussian elimination with pivots.
pub(super) fn solve<const N: usize>(mut matrix: Vec<Vec<f64>>) -> [Vec<f64>; N] {
    let size = matrix.len();
    for column in 0..size {
        let largest = |a: &usize, b: &usize| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs());
        let pivot = (column..size).max_by(largest).unwrap_or(column);
        matrix.swap(column, pivot);
        let (done, rest) = matrix.split_at_mut(column + 1);
        let Some(pivot) = done.last() else { continue };
        for row in rest.iter_mut().filter(|row| row[column] != 0.0) {
            let factor = row[column] / pivot[column];
            for (cell, of_pivot) in row[column..].iter_mut().zip(&pivot[column..]) {
                *cell -= factor * of_pivot;
            }
        }
    }
    std::array::from_fn(|side| {
        let mut solution = vec![0.0; size];
        for row in (0..size).rev() {
            let known: f64 = (row + 1..size).map(|column| matrix[row][column] * solution[column]).sum();
            solution[row] = (matrix[row][size + side] - known) / matrix[row][row];
        }
        solution
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_began_after_the_sum_was_last_at_zero() {
        let lattice = Lattice::new(0.1, 0.3);
        assert!(lattice.up > 1);
        let early = [true].into_iter().chain(std::iter::repeat_n(false, lattice.up as usize + 1));
        let findings: Vec<bool> = early.chain([true, false, true]).collect();
        assert_eq!(lattice.last_zero(findings.iter().copied()), findings.len() - 3);
        assert_eq!(lattice.last_zero([true, true]), 0);
        assert_eq!(lattice.last_zero([false, false]), 2);
        assert_eq!(lattice.last_zero([]), 0);
    }
    use crate::simulated::{Dice, false_alarms, run_length};

    #[test]
    fn evaluated_after_every_audit_it_raises_a_false_alarm_in_at_most_one_of_twenty_runs() {
        let share = false_alarms(1, 0.02, 1_000, 1_000);
        assert!(share <= 0.05, "{share}");
    }

    #[test]
    fn a_rate_of_five_times_the_limit_is_noticed() {
        let mut dice = Dice::new(2);
        let noticed = (0..200).filter(|_| {
            let mut process = EProcess::new(0.02);
            (0..400).any(|_| {
                process.observe(dice.below(0.10));
                process.ln_value() >= 20_f64.ln()
            })
        });
        assert!(noticed.count() >= 195);
    }

    #[test]
    fn at_the_limit_the_sum_passes_after_1344_audits_on_average() {
        let lattice = Lattice::new(0.02, 0.06);
        assert_eq!((lattice.up, lattice.level(20_f64.ln())), (26, 72));
        let solved = average_run_length(&lattice, 20_f64.ln(), 0.02);
        assert!((solved / 1_344.0 - 1.0).abs() < 0.05, "{solved}");
        let simulated = run_length(3, &lattice, 20_f64.ln(), 0.02, 2_000);
        assert!((simulated / solved - 1.0).abs() < 0.1, "{simulated} simulated, {solved} solved");
    }

    #[test]
    fn after_a_thousand_clean_audits_a_jump_is_noticed_within_a_few_dozen() {
        let lattice = Lattice::new(0.02, 0.06);
        assert!(
            average_run_length(&lattice, 20_f64.ln(), 0.10) < 60.0,
            "a clean past costs nothing: the sum is at 0"
        );
    }
}
