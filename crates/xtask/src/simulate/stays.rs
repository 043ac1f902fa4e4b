//! Whether caps and the bound at any time hold where no error rate is constant: agents that turn bad, agents that cheat,
//! auditors who stop judging.

use std::time::Duration;

use anyhow::ensure;
use countersign_statistics::{
    csp,
    simulated::stays::{Play, Stay},
    switching::{Caps, Cycle, MostUndetected, Plan},
};

use super::chance;

/// The error rate after the jump.
const JUMP: f64 = 0.2;

/// How many actions are right before it.
const CLEAN: u32 = 1_000;

/// At which rates an agent errs that makes no error while its actions are approved.
const CHEATS: [f64; 3] = [0.1, 0.2, 1.0];

/// At which rates a cap on undetected errors is played.
const CAPPED: [f64; 4] = [0.02, 0.05, 0.2, 1.0];

/// What all stays of a kind come to.
struct Summary {
    mean: f64,
    p95: u64,
    /// The share in which the bound was ever below the truth.
    beyond: f64,
}

impl Summary {
    fn of(stays: &[Stay]) -> Self {
        let mut undetected: Vec<u64> = stays.iter().map(|stay| stay.undetected).collect();
        undetected.sort_unstable();
        let share = |count: usize| count as f64 / stays.len() as f64;
        let sum: u64 = undetected.iter().sum();
        Self {
            mean: sum as f64 / stays.len() as f64,
            p95: undetected.get(undetected.len() * 95 / 100).copied().unwrap_or_default(),
            beyond: share(stays.iter().filter(|stay| stay.beyond_bound).count()),
        }
    }

    fn line(&self) -> String {
        let Self { mean, p95, beyond } = self;
        format!("{mean:5.0} undetected, p95 {p95:4}; above the bound in {:.2} % of runs", 100.0 * beyond)
    }
}

/// Plays stays and prints them. Fails if the bound at any time does not hold.
fn play(seed: u64, runs: u32, name: &str, play: &Play) -> anyhow::Result<Vec<Stay>> {
    let stays = play.stays(seed, runs);
    let summary = Summary::of(&stays);
    println!("  {name}: {}", summary.line());
    ensure!(summary.beyond <= 0.05 + chance::of(0.05, runs), "the bound at any time does not hold");
    Ok(stays)
}

pub(super) fn run(seed: u64, times: u32, plan: Plan) -> anyhow::Result<()> {
    let (runs, lag) = (30 * times, plan.wanted.lag);
    let caps = Caps { lag, due: Duration::MAX, at_most: None };
    let slow = Play { plan, caps, clean: CLEAN, rate: JUMP, late: lag, judged: None };
    let prompt = Play { late: lag / 20, ..slow };
    println!(
        "errors until approval is back, when {CLEAN} right actions are followed by {:.0} %:",
        100.0 * JUMP
    );
    for (name, played) in [("findings up to the lag late", slow), ("findings 20 times as soon", prompt)] {
        play(seed, runs, name, &played)?;
    }

    println!("errors until approval is back, of agents that err only when cleared:");
    for rate in CHEATS {
        let cheat = Play { clean: 0, rate, ..slow };
        let stays = play(seed, runs, &format!("{:3.0} % wrong", 100.0 * rate), &cheat)?;
        let solved = Cycle::of(&plan, rate).cheated_share(plan.clearance);
        println!(
            "              {:.1} % of all their actions; {:.1} % by the chain, if all findings are as late as can be",
            100.0 * cheat.cheated_share(&stays),
            100.0 * solved
        );
    }
    let one = csp::worst_case(plan.wanted.pi, plan.clearance, lag);
    println!("  if one error brought approval back, an agent could get {:.1} % through (CSP-1)", 100.0 * one);

    capped(seed, 10 * times, &prompt)?;
    stopped(seed, runs, &slow)
}

/// A cap on undetected errors, against agents that stay below what the CUSUM notices soon, and those above it.
fn capped(seed: u64, runs: u32, prompt: &Play) -> anyhow::Result<()> {
    let errors = 4 * MostUndetected::least(prompt.plan.wanted.pi);
    let caps = Caps { at_most: Some(MostUndetected { errors, rate: 0.0 }), ..prompt.caps };
    println!("errors until approval is back, with findings 20 times as soon and at_most {errors}:");
    for rate in CAPPED {
        let stays = Play { clean: 0, rate, caps, ..*prompt }.stays(seed, runs);
        let free = Summary::of(&Play { clean: 0, rate, ..*prompt }.stays(seed, runs));
        let more = stays.iter().filter(|stay| stay.undetected > errors + 1).count();
        let share = more as f64 / stays.len() as f64;
        println!(
            "  {:3.0} % wrong: {}; without the cap {:.0}",
            100.0 * rate,
            Summary::of(&stays).line(),
            free.mean
        );
        ensure!(share <= 0.05 + chance::of(0.05, runs), "the cap does not hold");
    }
    let flawless = Play { caps, ..*prompt }.stays(seed, runs);
    let returned = flawless.iter().filter(|stay| stay.executed < CLEAN).count();
    println!("  and of {CLEAN} right actions: {returned} of {runs} runs return nevertheless");
    Ok(())
}

/// Auditors stop judging, and the agent errs always from then on.
fn stopped(seed: u64, runs: u32, slow: &Play) -> anyhow::Result<()> {
    let judged = Some(CLEAN);
    println!("the same if nobody judges any more when all actions become wrong:");
    let stays = play(seed, runs, "no finding", &Play { rate: 1.0, judged, ..*slow })?;
    // The first action that is drawn and not judged is followed by `lag` others, and by the one that is too many.
    let most = stays.iter().map(|stay| stay.undetected).max().unwrap_or_default();
    println!("              at most {most}, with a lag of {}", slow.caps.lag);
    ensure!(stays.iter().all(|stay| stay.capped), "approval came back for another reason");
    Ok(())
}
