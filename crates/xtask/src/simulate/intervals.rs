//! Whether 95 % intervals cover the truth, and what they cost in width.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::ensure;
use countersign_statistics::simulated::{
    Dice,
    designs::{BAD, Coverage, Design},
};
use indicatif::ProgressBar;

use super::chance;

/// How many random designs.
const DESIGNS: usize = 400;

/// The least coverage that a design may have: what discrete counts and an approximate variance may cost.
const LEAST: f64 = 0.94;

/// The most that the median design's interval may be wider than Korn and Graubard's.
const WIDER: f64 = 1.05;

/// Plays a design `200 × times` times, and five times as often where that does not show that it covers 95 %. With
/// `times` = 10 a standard error is then 0.22 %, so that 94 and 95 % are more than four standard errors apart, which
/// chance alone bridges in none of 400 designs.
fn played(design: &Design, seed: u64, times: u32) -> Coverage {
    let mut dice = Dice::new(seed);
    let few = design.play(&mut dice, 200 * times);
    if few.share() - chance::of(0.95, few.runs) > 0.95 {
        return few;
    }
    design.play(&mut dice, 1_000 * times)
}

/// Plays the designs on every core, and shows how far it is.
fn play(designs: &[Design], seed: u64, times: u32) -> Vec<Coverage> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let progress = ProgressBar::new(designs.len() as u64).with_message("designs");
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(design) = designs.get(n) else { break };
                    let coverage = played(design, seed + n as u64, times);
                    results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((n, coverage));
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    let mut results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    results.sort_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, coverage)| coverage).collect()
}

fn describe(design: &Design) -> String {
    let cells = design.0.iter().map(|cell| format!("{} of {} at {:.3}", cell.wrong, cell.executed, cell.pi));
    cells.collect::<Vec<_>>().join(", ")
}

fn holds(design: &Design, coverage: &Coverage) -> anyhow::Result<()> {
    let least = LEAST - chance::of(LEAST, coverage.runs);
    ensure!(coverage.share() >= least, "the interval does not hold: {} {coverage:?}", describe(design));
    Ok(())
}

pub(super) fn run(seed: u64, times: u32) -> anyhow::Result<()> {
    println!("95 % intervals cover the truth where they once failed (wrong of executed at π):");
    let bad: Vec<Design> = BAD.iter().map(|cells| Design(cells.to_vec())).collect();
    for (design, coverage) in bad.iter().zip(play(&bad, seed, times)) {
        println!("  {:6.2} % of {} runs: {}", 100.0 * coverage.share(), coverage.runs, describe(design));
        holds(design, &coverage)?;
    }
    let mut dice = Dice::new(seed);
    let designs: Vec<Design> = (0..DESIGNS).map(|_| Design::random(&mut dice)).collect();
    let played = play(&designs, seed, times);
    let mut ranked: Vec<(&Design, &Coverage)> = designs.iter().zip(&played).collect();
    ranked.sort_by(|one, other| one.1.share().total_cmp(&other.1.share()));
    let below = ranked.iter().filter(|(_, coverage)| coverage.share() < 0.95).count();
    println!("and of {DESIGNS} random designs, {below} of them in less than 95 %; the least:");
    for (design, coverage) in ranked.iter().take(5) {
        println!("  {:6.2} % of {} runs: {}", 100.0 * coverage.share(), coverage.runs, describe(design));
    }
    for (design, coverage) in ranked {
        holds(design, coverage)?;
    }
    let mut widths: Vec<f64> = played.iter().map(|coverage| coverage.width).collect();
    widths.sort_by(f64::total_cmp);
    let [median, most] = [DESIGNS / 2, DESIGNS - 1].map(|n| widths.get(n).copied().unwrap_or(f64::NAN));
    println!(
        "they are {median:.3} times as wide as Korn and Graubard's in the median, at most {most:.2} times"
    );
    ensure!(median <= WIDER, "the intervals are too wide");
    Ok(())
}
