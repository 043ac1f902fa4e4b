//! The report of a run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    check::Violation,
    history::{Event, Phase},
    stored::Stored,
};
use countersign_testkit::build;

/// Most violations that are printed.
const SHOWN: usize = 40;

/// Counts by name.
pub(crate) type Counts = BTreeMap<String, usize>;

/// Counts of one run.
#[derive(Default)]
pub(crate) struct Report {
    faults: Counts,
    /// Processes that ended by themselves.
    pub(crate) ended: Vec<String>,
    /// Crash points that were not reached.
    pub(crate) missed: Vec<String>,
    /// Queues that the broker lost.
    pub(crate) reopened: Vec<&'static str>,
    /// Actions whose agents had to repeat their proposal for an answer.
    pub(crate) asked_again: usize,
    /// How long everything took to end after all faults were healed.
    pub(crate) settled_in: Duration,
}

impl Report {
    /// One more fault of a kind.
    pub(crate) fn count(&mut self, kind: &str) {
        *self.faults.entry(kind.to_owned()).or_default() += 1;
    }

    /// Prints what was done, seen and found.
    pub(crate) fn print(&self, events: &[Event], stored: &Stored, violations: &[Violation]) {
        println!("faults: {} in all", self.faults.values().sum::<usize>());
        for (kind, count) in &self.faults {
            println!("  {count:4} {kind}");
        }
        let count = |of: fn(&Event) -> bool| events.iter().filter(|event| of(event)).count();
        let confirmed = |event: &Event| matches!(event, Event::Proposed { phase: Phase::Ok, .. });
        let unknown = |event: &Event| matches!(event, Event::Proposed { phase: Phase::Unknown, .. });
        println!(
            "history: {} facts; proposals confirmed {}, unknown {}; decisions confirmed {}, findings confirmed {}; \
             calls {}, effects {}; answers {}",
            events.len(),
            count(confirmed),
            count(unknown),
            count(|event| matches!(event, Event::Decided { phase: Phase::Ok, .. })),
            count(|event| matches!(event, Event::Found { phase: Phase::Ok, .. })),
            count(|event| matches!(event, Event::Called { .. })),
            count(|event| matches!(event, Event::Acted { .. })),
            count(|event| matches!(event, Event::OutcomeReceived { .. })),
        );
        let mut states = Counts::new();
        for action in stored.actions.values() {
            *states.entry(action.state.to_string()).or_default() += 1;
        }
        let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        println!("actions checked: {} ({})", stored.actions.len(), states.join(", "));
        println!(
            "ledger: {} entries, {} of them streamed more than once; settled in {:.1?}; asked again for {} answers",
            stored.size,
            stored.stream.len() as u64 - stored.size.min(stored.stream.len() as u64),
            self.settled_in,
            self.asked_again,
        );
        if !self.ended.is_empty() {
            println!("ended by themselves: {}", self.ended.join(", "));
        }
        if !self.reopened.is_empty() {
            println!("lost by the broker, and declared once more: {}", self.reopened.join(", "));
        }
        if !self.missed.is_empty() {
            println!("not reached, which fails the run: {}", self.missed.join(", "));
        }
        println!(
            "hostile: {} messages accepted that the database refuses",
            count(|event| { matches!(event, Event::Poisoned { .. }) })
        );
        println!("violations: {}", violations.len());
        for violation in violations.iter().take(SHOWN) {
            println!("  {violation}");
        }
    }

    /// Copies history and logs out of the scratch folder, which is removed.
    pub(crate) fn keep(&self, scratch: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let to = build::workspace().join("target/torture").join(name);
        fs::create_dir_all(&to)?;
        // Those of the servers are in folders of theirs.
        for folder in ["", "rabbitmq", "rabbitmq/log", "postgres"] {
            let Ok(entries) = fs::read_dir(scratch.join(folder)) else { continue };
            for entry in entries {
                let path = entry?.path();
                let kept = path.extension().is_some_and(|is| is == "log" || is == "jsonl");
                if let Some(name) = path.file_name().filter(|_| kept && path.is_file()) {
                    fs::copy(&path, to.join(name))?;
                }
            }
        }
        Ok(to)
    }
}
