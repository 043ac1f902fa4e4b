//! Which faults come when: a function of the seed and the length of the run.

use std::{collections::VecDeque, time::Duration};

use countersign_broker::topology::{EXECUTION, SETTLED};
use countersign_testkit::{services::NODES, system::ROLES};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::fault::{Fault, Server, Wire};

/// Processes of each role.
pub(crate) const PER_ROLE: u32 = 2;

/// A fault, when it begins and how long it lasts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    /// Since the load began.
    pub(crate) at: Duration,
    /// How long it lasts until it is healed.
    pub(crate) lasts: Duration,
    /// What it is.
    pub(crate) fault: Fault,
}

/// The process `number` of a role.
pub(crate) fn process(role: &str, number: u32) -> String {
    format!("{role}-{number}")
}

fn of_a_broker(rng: &mut StdRng) -> Vec<Fault> {
    let queues = ["countersign.actions.one", EXECUTION, SETTLED, "countersign.findings"];
    vec![
        Fault::KillBroker,
        Fault::PauseBroker,
        Fault::MemoryAlarm,
        Fault::DiskAlarm,
        Fault::FullQueue(queues[rng.random_range(0..queues.len())]),
        Fault::NoQueue([EXECUTION, SETTLED, "countersign.commands.router"][rng.random_range(0..3)]),
    ]
}

fn of_a_cluster(rng: &mut StdRng) -> Vec<Fault> {
    let queues = ["countersign.actions.one", EXECUTION, SETTLED, "countersign.outcomes.one"];
    let mut faults = vec![Fault::KillNodes];
    for queue in queues {
        faults.push(Fault::KillLeader(queue));
    }
    faults.extend((0..NODES).map(Fault::Part));
    faults.shuffle(rng);
    faults
}

/// One fault of every kind, each with a target of its own.
fn deck(rng: &mut StdRng, cluster: bool) -> Vec<Fault> {
    let mut faults = if cluster { of_a_cluster(rng) } else { of_a_broker(rng) };
    faults.extend([Fault::KillDatabase, Fault::PauseDatabase, Fault::FullDisk, Fault::Tighten]);
    for seconds in [rng.random_range(1..172_800), -rng.random_range(1..172_800)] {
        let role = ROLES[rng.random_range(0..ROLES.len())];
        faults.push(Fault::Clock { process: process(role, rng.random_range(1..=PER_ROLE)), seconds });
    }
    for role in ROLES {
        faults.push(Fault::Kill(process(role, rng.random_range(1..=PER_ROLE))));
        faults.push(Fault::Pause(process(role, rng.random_range(1..=PER_ROLE))));
    }
    for server in [Server::Broker, Server::Database] {
        for wire in [Wire::Delay(rng.random_range(20..400)), Wire::Stall, Wire::Cut, Wire::Tear] {
            let role = ROLES[rng.random_range(0..ROLES.len())];
            let process = process(role, rng.random_range(1..=PER_ROLE));
            faults.push(Fault::Link { process, server, wire });
        }
    }
    faults.shuffle(rng);
    faults
}

/// The longest that a fault lasts in a run of this length: a minute at most.
fn longest(run: Duration) -> Duration {
    (run / 10).clamp(Duration::from_secs(3), Duration::from_secs(60))
}

/// The faults of a run, ordered by when they begin: one to three at a time, no two on the same target at once, and
/// a pause behind each group. Every kind comes before any comes again.
pub(crate) fn plan(seed: u64, run: Duration, cluster: bool) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut planned, mut at) = (Vec::new(), Duration::from_secs(3));
    let mut cards = VecDeque::new();
    while at < run {
        let together = [1, 1, 1, 2, 2, 3][rng.random_range(0..6)];
        let mut group: Vec<Planned> = Vec::new();
        for _ in 0..together {
            if cards.len() < 3 {
                cards.extend(deck(&mut rng, cluster));
            }
            let free = |fault: &Fault| group.iter().all(|other| other.fault.target() != fault.target());
            let Some(fault) = cards.iter().position(free).and_then(|index| cards.remove(index)) else {
                break;
            };
            // Mostly short, rarely long.
            let share = rng.random::<f64>().powi(3);
            // A process notices a changed clock within a second.
            let least = if matches!(fault, Fault::Clock { .. }) { 2_000 } else { 500 };
            let lasts = Duration::from_millis(least) + longest(run).mul_f64(share);
            let apart = Duration::from_millis(rng.random_range(0..1_000));
            group.push(Planned { at: at + apart, lasts, fault });
        }
        at = group.iter().map(|one| one.at + one.lasts).max().unwrap_or(at);
        at += Duration::from_millis(rng.random_range(500..3_000));
        planned.extend(group);
    }
    planned.retain(|one| one.at < run);
    planned.sort_by_key(|one| one.at);
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_again() {
        let run = Duration::from_secs(600);
        assert_eq!(plan(7, run, false), plan(7, run, false));
        assert_ne!(plan(7, run, false), plan(8, run, false));
    }

    #[test]
    fn no_target_has_two_faults_at_once() {
        for seed in 0..50 {
            let planned = plan(seed, Duration::from_secs(600), seed % 2 == 0);
            for (index, one) in planned.iter().enumerate() {
                let during = |other: &&Planned| other.at < one.at + one.lasts;
                for other in planned[index + 1..].iter().take_while(during) {
                    assert_ne!(one.fault.target(), other.fault.target(), "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn a_long_run_has_every_kind_of_fault() {
        let mut rng = StdRng::seed_from_u64(1);
        let all: std::collections::BTreeSet<String> = deck(&mut rng, false).iter().map(Fault::kind).collect();
        let planned = plan(3, Duration::from_secs(1_200), false);
        let had: std::collections::BTreeSet<String> = planned.iter().map(|one| one.fault.kind()).collect();
        let kinds = |names: &std::collections::BTreeSet<String>| names.len();
        assert!(kinds(&had) >= kinds(&all), "{had:?}");
        assert!(planned.iter().any(|one| one.lasts > Duration::from_secs(30)));
    }
}
