//! Error rates from audits that were drawn with unequal probabilities.
//!
//! The draw is independent from action to action, so that a population splits by inclusion probability and by nothing
//! else: given how many of a cell were drawn, each of its subsets was as likely. Strata within a cell cost nothing, and
//! what one cell shows says nothing of another.

use super::binomial::{Interval, clopper_pearson};

/// The probability outside a 95 % interval.
pub const ALPHA: f64 = 0.05;

/// Executed actions with one inclusion probability, and their audits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The inclusion probability π of each, 0 to 1.
    pub pi: f64,
    /// How many were executed, drawn or not.
    pub executed: u64,
    /// Drawn and judged, right or wrong.
    pub judged: u64,
    /// Judged wrong.
    pub wrong: u64,
    /// Drawn and not judged yet.
    pub missing: u64,
}

/// What is estimated of a population of executed actions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The number of errors: Σ N · wrong / judged over cells, each audit standing for the same number of its cell's N
    /// actions. `None` without audits, and where what was drawn of a cell is not judged at all. Cells that were never
    /// drawn from add nothing.
    pub errors: Option<f64>,
    /// The rate among the cells with a judgement. `None` without one.
    pub rate: Option<f64>,
    /// The interval of the rate of all that was executed: see [`estimate`].
    pub interval: Interval,
    /// Errors that nobody has found: `errors` less what was judged wrong.
    pub undetected: Option<f64>,
}

/// Estimates the error rate of `cells` with an interval that misses it with probability `alpha`, half on each side.
/// Cells with the same π are as one.
///
/// The upper end is the largest of three: Korn and Graubard's (Survey Methodology 24, 1998; without their factor for
/// strata, for there are none), which says what the audits found where they looked; the errors that were found with
/// those that may lie where nobody looked (`unseen`); and what a single cell may hold if all others are as they were
/// found to be (`alone`), for Korn and Graubard's variance is too small where the few audits of a cell with a small π
/// happen to find nothing. The lower end is the same of the actions that are right. Neither contradicts what was judged.
/// An audit that is not judged yet counts as right below and as wrong above.
pub fn estimate(cells: &[Cell], alpha: f64) -> Estimate {
    let cells = merged(cells);
    let groups = groups(&cells);
    let judged = || groups.iter().filter_map(|group| Some((group, group.errors()?)));
    let executed: f64 = judged().map(|(group, _)| group.executed()).sum();
    let errors: f64 = judged().map(|(_, errors)| errors).sum();
    let rate = (executed > 0.0).then(|| errors / executed);
    let known = groups.iter().all(|group| group.errors().is_some() || !group.is_drawn());
    let errors = rate.filter(|_| known).map(|_| errors);
    let found: u64 = cells.iter().map(|cell| cell.wrong).sum();
    let mut interval = interval(&cells, alpha);
    if let Some(rate) = rate {
        // Korn and Graubard weigh by 1/π what the estimate weighs by N / judged.
        interval = Interval { lower: interval.lower.min(rate), upper: interval.upper.max(rate) };
    }
    let undetected = errors.map(|errors| (errors - found as f64).max(0.0));
    Estimate { errors, rate, interval, undetected }
}

/// How many audits drawn with one probability would estimate the rate as well as those of `cells`: (Σ N)² / Σ (N² / judged) over
/// the cells with a judgement (Kish, Survey Sampling, 1965). 0 without one.
pub fn effective_audits(cells: &[Cell]) -> f64 {
    let cells = merged(cells);
    let judged = || cells.iter().filter(|cell| cell.judged > 0);
    let executed: f64 = judged().map(|cell| cell.executed as f64).sum();
    let spread: f64 = judged().map(|cell| (cell.executed as f64).powi(2) / cell.judged as f64).sum();
    if spread > 0.0 { executed.powi(2) / spread } else { 0.0 }
}

/// The probability outside each of `intervals` independent intervals that all hold at once but with probability `alpha`
/// (Šidák, JASA 62, 1967).
pub fn each_of(intervals: usize, alpha: f64) -> f64 {
    -((-alpha).ln_1p() / intervals.max(1) as f64).exp_m1()
}

/// One cell per inclusion probability, the smallest first; those without actions are left out. Where all was judged, it
/// no longer matters with what probability it was drawn: a census.
pub(super) fn merged(cells: &[Cell]) -> Vec<Cell> {
    let census = cells.iter().all(|cell| cell.judged == cell.executed);
    let cells = cells.iter().filter(|cell| cell.executed > 0);
    let mut sorted: Vec<Cell> =
        cells.map(|cell| Cell { pi: if census { 1.0 } else { cell.pi }, ..*cell }).collect();
    sorted.sort_by(|one, other| one.pi.total_cmp(&other.pi));
    let mut merged: Vec<Cell> = Vec::with_capacity(sorted.len());
    for cell in sorted {
        match merged.last_mut().filter(|last| last.pi == cell.pi) {
            Some(last) => {
                last.executed += cell.executed;
                last.judged += cell.judged;
                last.wrong += cell.wrong;
                last.missing += cell.missing;
            }
            None => merged.push(cell),
        }
    }
    merged
}

/// Cells that are estimated together, by the ratio of the sums of 1/π over wrong and over judged ones.
struct Group(Vec<Cell>);

impl Group {
    fn executed(&self) -> f64 {
        self.0.iter().map(|cell| cell.executed as f64).sum()
    }

    fn is_drawn(&self) -> bool {
        self.0.iter().any(|cell| cell.judged + cell.missing > 0)
    }

    /// In one cell: N · wrong / judged. `None` without a judgement.
    fn errors(&self) -> Option<f64> {
        let sum = |pick: fn(&Cell) -> u64| self.0.iter().map(|cell| pick(cell) as f64 / cell.pi).sum::<f64>();
        let (wrong, judged) = (sum(|cell| cell.wrong), sum(|cell| cell.judged));
        (judged > 0.0).then(|| self.executed() * (wrong / judged))
    }

    /// The most errors, by the interval of these cells alone and what was judged right.
    fn most(&self, alpha: f64) -> f64 {
        let right = self.0.iter().map(|cell| (cell.judged - cell.wrong) as f64).sum::<f64>();
        (self.executed() * korn_graubard(&self.0, alpha).upper).min(self.executed() - right)
    }
}

/// Cells with fewer audits than this to be expected are no group of their own: of a cell from which nothing was drawn,
/// though something might have been, nothing can be estimated, and to leave it out would count its errors as none.
const EXPECTED_DRAWS: f64 = 5.0;

/// The cells from which something can be drawn, the small ones as one group.
fn groups(cells: &[Cell]) -> Vec<Group> {
    let drawable = cells.iter().copied().filter(|cell| cell.pi > 0.0);
    let (small, large): (Vec<Cell>, Vec<Cell>) =
        drawable.partition(|cell| cell.pi * (cell.executed as f64) < EXPECTED_DRAWS);
    let small = (!small.is_empty()).then_some(Group(small));
    large.into_iter().map(|cell| Group(vec![cell])).chain(small).collect()
}

/// The cells as if all that was drawn were judged, and what is not judged yet were right or wrong.
fn settled(cells: &[Cell], wrong: bool) -> Vec<Cell> {
    let settle = |cell: &Cell| Cell {
        judged: cell.judged + cell.missing,
        wrong: cell.wrong + if wrong { cell.missing } else { 0 },
        missing: 0,
        ..*cell
    };
    cells.iter().map(settle).collect()
}

/// The most actions of one kind, wrong or right, and what that follows from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Most {
    /// The effective number of audits, at most as many as there are, and how many of these are of the kind. Not whole.
    pub effective: Effective,
    /// What was executed times the upper end of Clopper and Pearson's interval for the effective numbers.
    pub korn_graubard: f64,
    /// What was found and what the draw may have missed; absent with one cell, in which the first is exact.
    pub with_unseen: Option<f64>,
    /// What a single cell may hold with the others as they were found to be; absent with one cell.
    pub alone: Option<f64>,
    /// What was not judged to be of the other kind: no bound is above it.
    pub possible: f64,
}

impl Most {
    /// The largest of the three, as far as possible.
    pub fn count(&self) -> f64 {
        let others = self.with_unseen.into_iter().chain(self.alone);
        others.fold(self.korn_graubard, f64::max).min(self.possible)
    }
}

/// The most right and the most wrong actions among `cells`, of which the ends of the interval are made: see [`estimate`].
pub fn most_right_and_wrong(cells: &[Cell], alpha: f64) -> [Most; 2] {
    let cells = merged(cells);
    let mirror = |cell: Cell| Cell { wrong: cell.judged - cell.wrong, ..cell };
    let right: Vec<Cell> = settled(&cells, false).into_iter().map(mirror).collect();
    [most(&right, alpha), most(&settled(&cells, true), alpha)]
}

/// The most errors among merged cells, if all that was drawn is judged.
fn most(cells: &[Cell], alpha: f64) -> Most {
    let sum = |pick: fn(&Cell) -> u64| cells.iter().map(pick).sum::<u64>() as f64;
    let (executed, judged, wrong) =
        (sum(|cell| cell.executed), sum(|cell| cell.judged), sum(|cell| cell.wrong));
    // Within one cell the first is exact, and chance alone decides what was not drawn.
    let several = cells.len() > 1;
    Most {
        effective: effective(cells),
        korn_graubard: korn_graubard(cells, alpha).upper * executed,
        with_unseen: several.then(|| wrong + unseen(cells, alpha / 2.0)),
        alone: several.then(|| alone(cells, alpha)),
        possible: executed - (judged - wrong),
    }
}

/// The interval of the rate.
fn interval(cells: &[Cell], alpha: f64) -> Interval {
    let executed = cells.iter().map(|cell| cell.executed).sum::<u64>() as f64;
    if executed == 0.0 {
        return Interval::UNKNOWN;
    }
    let [right, wrong] = most_right_and_wrong(cells, alpha);
    // Whole numbers are subtracted and then divided, so that a census is exact.
    Interval { lower: (executed - right.count()) / executed, upper: wrong.count() / executed }
}

/// The most errors that a single group may hold, with as many in the others as were estimated. All of what is never
/// drawn may be wrong.
fn alone(cells: &[Cell], alpha: f64) -> f64 {
    let groups = groups(cells);
    let errors = |group: &Group| group.errors().unwrap_or(0.0);
    let all: f64 = groups.iter().map(errors).sum();
    let more = groups.iter().map(|group| group.most(alpha) - errors(group)).fold(0.0, f64::max);
    let never = cells.iter().filter(|cell| cell.pi <= 0.0).map(|cell| cell.executed as f64).sum::<f64>();
    all + more + never
}

/// The most actions of one kind, wrong or right, that the draw may have missed altogether with a probability of more
/// than `alpha`: in a cell with π each is missed with 1 − π, so it costs −ln(1 − π) of a budget of −ln `alpha`. Those
/// least likely to be drawn come first, in order of π, as [`merged`] puts them.
fn unseen(cells: &[Cell], alpha: f64) -> f64 {
    let mut budget = -alpha.ln();
    let mut unseen = 0;
    for cell in cells.iter().filter(|cell| cell.pi < 1.0) {
        let cost = -(-cell.pi).ln_1p();
        let affordable = if cost > 0.0 { (budget / cost) as u64 } else { u64::MAX };
        let missed = affordable.min(cell.executed.saturating_sub(cell.judged));
        budget = (budget - missed as f64 * cost).max(0.0);
        unseen += missed;
    }
    unseen as f64
}

/// Audits that say as much as others that were drawn with other probabilities. Numbers that need not be whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effective {
    /// How many would estimate the rate as well if all had been drawn with the same probability.
    pub audits: f64,
    /// How many of these found an error.
    pub wrong: f64,
}

/// Clopper and Pearson's interval with the effective number of audits.
pub(super) fn korn_graubard(cells: &[Cell], alpha: f64) -> Interval {
    let Effective { audits, wrong } = effective(cells);
    clopper_pearson(wrong, audits, alpha)
}

/// Korn and Graubard's effective numbers (Survey Methodology 24, 1998).
fn effective(cells: &[Cell]) -> Effective {
    let cells = || cells.iter().filter(|cell| cell.judged > 0);
    let judged = cells().map(|cell| cell.judged as f64).sum::<f64>();
    let wrong = cells().map(|cell| cell.wrong as f64).sum::<f64>();
    if wrong == 0.0 || wrong == judged {
        return Effective { audits: judged, wrong };
    }
    let weight: f64 = cells().map(|cell| cell.judged as f64 / cell.pi).sum();
    let rate = cells().map(|cell| cell.wrong as f64 / cell.pi).sum::<f64>() / weight;
    // The linearised variance of a ratio under a Poisson design with replacement, from what was drawn.
    let square = |cell: &Cell| {
        let (wrong, right) = (cell.wrong as f64, (cell.judged - cell.wrong) as f64);
        (wrong * (1.0 - rate).powi(2) + right * rate.powi(2)) / cell.pi.powi(2)
    };
    let spread: f64 = cells().map(square).sum();
    let variance = spread / weight.powi(2) * judged / (judged - 1.0).max(1.0);
    let audits = (rate * (1.0 - rate) / variance).min(judged);
    Effective { audits, wrong: rate * audits }
}

#[cfg(test)]
mod tests;
