//! How often the difference estimator's intervals cover the truth, and how many audits a score saves.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF as _, Normal};

use super::Dice;
use crate::{
    difference::{ScoredCell, difference},
    estimate::{ALPHA, Cell},
};

/// Actions with scores, and how they are audited.
#[derive(Clone, Copy, Debug)]
pub struct Scored<F> {
    /// How many actions.
    pub actions: u32,
    /// How likely each of them is wrong, 0 to 1.
    pub rate: f64,
    /// How well the score tells errors: the probability that an error has a larger one than what is right, from 0.5 on.
    pub area: f64,
    /// π by the score.
    pub pi: F,
}

/// What came of playing it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Played {
    /// The share of runs in which the interval contained the true rate.
    pub covered: f64,
    /// The mean width of the intervals.
    pub width: f64,
    /// How many audits there were on average.
    pub audits: f64,
    /// How many audits with one π for all, and no scores, would have had the same variance, by that of the estimates over the runs.
    pub uniform: f64,
}

/// Executed actions with one π and one score.
struct Group {
    score: f64,
    pi: f64,
    wrong: u32,
    right: u32,
}

impl<F: Fn(f64) -> f64> Scored<F> {
    /// Actions whose score is the probability that it is wrong, given one that is normally distributed with the same variance about two
    /// means, of errors and of what is right, which is rounded to two digits.
    fn population(&self, dice: &mut Dice) -> Vec<Group> {
        // Two normal distributions at the distance d have the area Φ(d / √2).
        let distance = std::f64::consts::SQRT_2 * Normal::standard().inverse_cdf(self.area);
        let prior = (self.rate / (1.0 - self.rate)).ln();
        let mut groups: BTreeMap<u64, (f64, [u32; 2])> = BTreeMap::new();
        for _ in 0..self.actions {
            let wrong = dice.below(self.rate);
            let signal = normal(dice) + if wrong { distance / 2.0 } else { -distance / 2.0 };
            let score = 1.0 / (1.0 + (-prior - distance * signal).exp());
            let score = format!("{score:.1e}").parse().unwrap_or(score);
            groups.entry(score.to_bits()).or_insert((score, [0, 0])).1[usize::from(wrong)] += 1;
        }
        let group =
            |(score, [right, wrong]): (f64, [u32; 2])| Group { score, pi: (self.pi)(score), wrong, right };
        groups.into_values().map(group).collect()
    }

    /// Draws audits `runs` times from each of `populations`, all of them judged, and looks where the truth lies.
    pub fn play(&self, seed: u64, populations: u32, runs: u32) -> Played {
        let mut dice = Dice::new(seed);
        let (mut covered, mut width, mut audits, mut uniform) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..populations {
            let population = self.population(&mut dice);
            let wrong: u32 = population.iter().map(|group| group.wrong).sum();
            let truth = f64::from(wrong) / f64::from(self.actions);
            let mut squares = 0.0;
            for _ in 0..runs {
                let cells: Vec<ScoredCell> = population.iter().map(|group| group.draw(&mut dice)).collect();
                let found = difference(&cells, ALPHA);
                covered += f64::from(u8::from(found.interval.contains(truth)));
                width += found.interval.upper - found.interval.lower;
                audits += cells.iter().map(|of| of.cell.judged as f64).sum::<f64>();
                squares += (found.rate.unwrap_or(truth) - truth).powi(2);
            }
            // The variance of a rate with probability q for all is p (1 − p) (1 / q − 1) / N.
            let spread = truth * (1.0 - truth) / f64::from(self.actions);
            uniform += f64::from(self.actions) * spread
                / (spread + squares / f64::from(runs)).max(f64::MIN_POSITIVE);
        }
        let all = f64::from(populations) * f64::from(runs);
        let uniform = uniform / f64::from(populations);
        Played { covered: covered / all, width: width / all, audits: audits / all, uniform }
    }
}

impl Group {
    fn draw(&self, dice: &mut Dice) -> ScoredCell {
        let mut drawn = |count: u32| (0..count).filter(|_| dice.below(self.pi)).count() as u64;
        let (wrong, right) = (drawn(self.wrong), drawn(self.right));
        let executed = u64::from(self.wrong + self.right);
        ScoredCell {
            score: self.score,
            cell: Cell { pi: self.pi, executed, judged: wrong + right, wrong, missing: 0 },
        }
    }
}

/// A standard normal number (Box and Muller, Ann. Math. Stat. 29, 1958).
fn normal(dice: &mut Dice) -> f64 {
    let (radius, angle) = ((-2.0 * (1.0 - dice.unit()).ln()).sqrt(), std::f64::consts::TAU * dice.unit());
    radius * angle.cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_with_good_and_with_useless_scores_and_good_ones_save_audits() {
        for rate in [0.005, 0.1] {
            let played = [0.5, 0.9].map(|area| {
                let pi = |score: f64| (2.0 * 0.5 * (score * (1.0 - score)).sqrt()).clamp(0.05, 0.5);
                Scored { actions: 4_000, rate, area, pi }.play(3, 5, 40)
            });
            assert!(played.iter().all(|played| played.covered >= 0.95), "{played:?}");
            let saved = played.map(|played| played.uniform / played.audits);
            assert!(saved[0] < 1.4 && saved[1] > 1.5, "{played:?}");
        }
    }

    #[test]
    fn the_score_tells_errors_as_well_as_it_should() {
        let scored = Scored { actions: 20_000, rate: 0.1, area: 0.9, pi: |_| 1.0 };
        let population = scored.population(&mut Dice::new(8));
        let (mut below, mut pairs, mut right) = (0.0, 0.0, 0.0);
        for group in &population {
            below += f64::from(group.wrong) * (right + f64::from(group.right) / 2.0);
            right += f64::from(group.right);
            pairs += f64::from(group.wrong);
        }
        let area = below / (pairs * right);
        assert!((area - 0.9).abs() < 0.01, "{area}");
        // And it says how likely an error is.
        let expected: f64 =
            population.iter().map(|group| group.score * f64::from(group.wrong + group.right)).sum();
        assert!((expected - pairs).abs() < 5.0 * (20_000.0_f64 * 0.09).sqrt(), "{expected} {pairs}");
    }
}
