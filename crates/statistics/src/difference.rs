//! Error rates from audits that were drawn by a score, with the score's help: the difference estimator.
//!
//! Before an action is drawn, something has said how likely it is wrong: f. The estimate is Σ f + Σ over audits of (y − f) / π, with y
//! = 1 for an error: what the scores predict, put right by what audits found otherwise (Cassel, Särndal and Wretman, Biometrika
//! 63, 1976; Zrnic and Candès, arXiv 2403.03208; Angelopoulos, Duchi and Zrnic, arXiv 2311.01453). Whatever the scores are worth,
//! its expectation is the number of errors, because π is what the draw was made with. Its variance is small where f is right, and where π
//! is large wherever f may be wrong.
//!
//! The interval trusts no score. For s > 0 take for each action the factor e^(−s ξ (y − f) / π) / E, ξ = 1 if it was drawn, with the
//! expectation E = 1 − π + π e^(−s (y − f) / π). The product has the expectation 1, and so has its average over several s. By
//! Markov's inequality it reaches 1/α with probability α at most, so the number of errors is, but with that probability, one that
//! some assignment of errors to the actions that nobody has looked at allows. (The same product as in [`super::anytime`], with another weight: there
//! an error counts the same wherever it is drawn, here it counts 1/π.) A normal interval of nominal 95 % covers 78 to 91 % at 0.5 %
//! errors: where few errors are drawn, the variance is small by the same chance by which the estimate is too low.

use super::{
    anytime::largest,
    binomial::Interval,
    estimate::{Cell, merged},
};

/// Executed actions with one inclusion probability and one score, and their audits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredCell {
    /// f: how likely each was thought to be wrong before it was drawn, 0 to 1.
    pub score: f64,
    /// The actions.
    pub cell: Cell,
}

/// What is estimated with the scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The number of errors, between what was judged wrong and what was not judged right. `None` without a judgement, and where what
    /// was drawn with one probability is not judged at all.
    pub errors: Option<f64>,
    /// The rate of all that was executed; `None` where `errors` is.
    pub rate: Option<f64>,
    /// Its interval.
    pub interval: Interval,
    /// How many audits a draw with the same π for every action would have needed, without scores, for the same variance. `None` with
    /// fewer than [`LEAST_WRONG`] errors found, from which no variance can be told, or without an estimate.
    pub uniform: Option<f64>,
}

/// With ten errors the estimated variance is off by a third.
pub const LEAST_WRONG: u64 = 10;

/// Over how many s the product is averaged.
const GRID: usize = 5;

/// Estimates the error rate with an interval that misses it with probability `alpha`, at most half on each side. An audit that is
/// not judged yet counts as right below and as wrong above; the estimate weighs what was judged of a probability for all that was drawn.
pub fn difference(cells: &[ScoredCell], alpha: f64) -> Difference {
    let sum = |pick: fn(&Cell) -> u64| cells.iter().map(|of| pick(&of.cell)).sum::<u64>() as f64;
    let executed = sum(|cell| cell.executed);
    if executed == 0.0 {
        return Difference { errors: None, rate: None, interval: Interval::UNKNOWN, uniform: None };
    }
    let [wrong, right] = [sum(|cell| cell.wrong), sum(|cell| cell.judged - cell.wrong)];
    let weights = Weights::of(cells);
    let errors = weights
        .known
        .then(|| (cells.iter().map(|of| weights.errors(of)).sum::<f64>()).clamp(wrong, executed - right));
    let rate = errors.map(|errors| errors / executed);
    let mirrored: Vec<ScoredCell> = cells.iter().map(mirror).collect();
    let lower = (executed - most(&mirrored, alpha / 2.0)) / executed;
    let upper = most(cells, alpha / 2.0) / executed;
    let interval = rate.map_or(Interval { lower, upper }, |rate| Interval {
        lower: lower.min(rate),
        upper: upper.max(rate),
    });
    let uniform = rate.filter(|_| wrong >= LEAST_WRONG as f64).map(|rate| {
        // Its variance is N p (1 − p) (1 / q − 1) with probability q.
        let spread = executed * rate * (1.0 - rate);
        let variance: f64 = cells.iter().map(|of| weights.variance(of)).sum();
        executed * spread / (spread + variance)
    });
    Difference { errors, rate, interval, uniform }
}

/// By how much an audit's weight grows because others of its probability are not judged.
struct Weights {
    /// The inclusion probabilities, smallest first, with drawn / judged.
    drawn: Vec<(f64, f64)>,
    /// Whether something is judged, and of each probability from which something was drawn.
    known: bool,
}

impl Weights {
    fn of(cells: &[ScoredCell]) -> Self {
        let plain: Vec<Cell> = cells.iter().map(|of| of.cell).collect();
        let cells = merged(&plain);
        let known = cells.iter().any(|cell| cell.judged > 0)
            && cells.iter().all(|cell| cell.judged > 0 || cell.missing == 0);
        let ratio = |cell: &Cell| (cell.judged + cell.missing) as f64 / (cell.judged as f64).max(1.0);
        Self { drawn: cells.iter().map(|cell| (cell.pi, ratio(cell))).collect(), known }
    }

    /// 1/π, larger where audits are missing. A census of everything has weight 1, whatever the probabilities were.
    fn weight(&self, pi: f64) -> f64 {
        match self.drawn.as_slice() {
            [(one, _)] if *one >= 1.0 && pi < 1.0 => 1.0,
            drawn => drawn.iter().find(|(other, _)| *other == pi).map_or(0.0, |(_, ratio)| ratio / pi),
        }
    }

    /// Σ f + Σ (y − f) / π of a cell.
    fn errors(&self, ScoredCell { score, cell }: &ScoredCell) -> f64 {
        let otherwise = cell.wrong as f64 - cell.judged as f64 * score;
        let put_right = if cell.judged > 0 { otherwise * self.weight(cell.pi) } else { 0.0 };
        cell.executed as f64 * score + put_right
    }

    /// Its estimated variance under an independent draw of each action: Σ (1 − π) (y − f)² / π², and more where audits are missing.
    fn variance(&self, ScoredCell { score, cell }: &ScoredCell) -> f64 {
        let (wrong, right) = (cell.wrong as f64, (cell.judged - cell.wrong) as f64);
        let squares = wrong * (1.0 - score).powi(2) + right * score.powi(2);
        if squares > 0.0 { squares * self.weight(cell.pi) * (self.weight(cell.pi) - 1.0) } else { 0.0 }
    }
}

/// The same of actions that are right.
fn mirror(of: &ScoredCell) -> ScoredCell {
    let ScoredCell { score, cell } = *of;
    ScoredCell { score: 1.0 - score, cell: Cell { wrong: cell.judged - cell.wrong, ..cell } }
}

/// The most errors that a probability of `alpha` does not rule out.
fn most(cells: &[ScoredCell], alpha: f64) -> f64 {
    let products: Vec<Product> = grid(cells, alpha).into_iter().map(|s| Product::of(cells, s)).collect();
    let undrawn = |of: &ScoredCell| of.cell.executed.saturating_sub(of.cell.judged + of.cell.missing);
    let unseen = largest(cells.iter().map(undrawn).sum(), |errors| {
        let logarithms: Vec<f64> = products.iter().map(|product| product.with(errors)).collect();
        ln_mean(&logarithms) < -alpha.ln()
    });
    let known: u64 = cells.iter().map(|of| of.cell.wrong + of.cell.missing).sum();
    (known + unseen) as f64
}

/// The values of s, by what was known before the draw. The best s for a variance of V is √(2 ln(1/α) / V), and V is what the scores
/// predict; but with s far above π nothing is told of actions with that π, as few of which are given up as possible.
fn grid(cells: &[ScoredCell], alpha: f64) -> [f64; GRID] {
    let price = -alpha.ln();
    let variance = |of: &ScoredCell| {
        let ScoredCell { score, cell } = of;
        let each = score * (1.0 - score) * (1.0 / cell.pi - 1.0);
        if cell.pi > 0.0 { cell.executed as f64 * each } else { 0.0 }
    };
    let variance: f64 = cells.iter().map(variance).sum();
    let best = (2.0 * price / variance.max(1.0)).sqrt();
    let plain: Vec<Cell> = cells.iter().map(|of| of.cell).collect();
    let (mut given_up, mut least, mut cheapest) = (0.0, 1.0, f64::INFINITY);
    for cell in merged(&plain).iter().filter(|cell| cell.pi > 0.0) {
        if given_up + price / cell.pi < cheapest {
            (least, cheapest) = (cell.pi, given_up + price / cell.pi);
        }
        given_up += cell.executed as f64;
    }
    let low = best.min(least) / 2.0;
    let high = (2.0 * best).min(4.0 * least).max(2.0 * low);
    std::array::from_fn(|n| low * (high / low).powf(n as f64 / (GRID - 1) as f64))
}

/// The product for one s.
struct Product {
    /// Its logarithm if nothing is wrong that nobody has looked at.
    logarithm: f64,
    /// What each such error adds, the least first, and how many there can be.
    costs: Vec<(f64, u64)>,
}

impl Product {
    fn of(cells: &[ScoredCell], s: f64) -> Self {
        let (mut logarithm, mut costs) = (0.0, Vec::with_capacity(cells.len()));
        for ScoredCell { score, cell } in cells {
            let undrawn = cell.executed.saturating_sub(cell.judged + cell.missing);
            if cell.pi <= 0.0 {
                costs.push((0.0, undrawn));
                continue;
            }
            let [wrong, right] = [-s * (1.0 - score) / cell.pi, s * score / cell.pi];
            let [if_wrong, if_right] = [wrong, right].map(|exponent| ln_expectation(cell.pi, exponent));
            logarithm += (cell.wrong + cell.missing) as f64 * (wrong - if_wrong);
            logarithm += (cell.judged - cell.wrong) as f64 * (right - if_right) - undrawn as f64 * if_right;
            costs.push((if_right - if_wrong, undrawn));
        }
        costs.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self { logarithm, costs }
    }

    /// Its logarithm with so many errors that nobody has looked at, where they cost least.
    fn with(&self, errors: u64) -> f64 {
        let (mut left, mut logarithm) = (errors, self.logarithm);
        for (cost, count) in &self.costs {
            let here = left.min(*count);
            logarithm += here as f64 * cost;
            left -= here;
        }
        logarithm
    }
}

/// ln(1 − π + π e^x).
fn ln_expectation(pi: f64, exponent: f64) -> f64 {
    // A large exponent would overflow; a census is exact.
    if pi >= 1.0 || exponent > 500.0 { exponent + pi.ln() } else { (pi * exponent.exp_m1()).ln_1p() }
}

/// ln of the average of e^x.
fn ln_mean(logarithms: &[f64]) -> f64 {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logarithms.iter().map(|logarithm| (logarithm - largest).exp()).sum();
    largest + (sum / logarithms.len() as f64).ln()
}

#[cfg(test)]
mod tests;
