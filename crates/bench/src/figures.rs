//! The results, as a table and as JSON.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;
use serde_json::Value;

use super::{
    fairness::{self, Fairness},
    ledger::Timed,
    median::{median, ratio},
    usage::ByProcess,
};

pub(crate) const SYSTEM: &str = "system";
pub(crate) const CEILING: &str = "ceiling";

/// One figure over several runs.
#[derive(Serialize)]
pub(super) struct Figure {
    what: String,
    unit: &'static str,
    system: Vec<f64>,
    ceiling: Vec<f64>,
    /// Values of the system without past actions, measured beside one with them.
    no_past: Vec<f64>,
}

/// The CPU time that one side's processes spent per action, over several runs.
#[derive(Serialize)]
struct Spent {
    what: String,
    by_process: BTreeMap<String, Vec<f64>>,
}

/// The samples of a process's resident memory at full rate, and its peak.
#[derive(Default, Serialize)]
struct Memory {
    steady: Vec<f64>,
    peak: f64,
}

/// All results, with the machine and settings.
#[derive(Default, Serialize)]
pub(super) struct Figures {
    machine: Value,
    settings: Value,
    figures: Vec<Figure>,
    /// CPU seconds per 1,000 actions at full rate.
    cpu: Vec<Spent>,
    /// By process, in MiB.
    memory: BTreeMap<String, Memory>,
    /// The age of the oldest unrecorded evidence when the last outcome arrived, in seconds.
    pub(super) lag: Vec<f64>,
    /// What one agent's flood costs another.
    pub(super) fairness: Vec<Fairness>,
    /// Timings with a large ledger.
    pub(super) ledger: Vec<Timed>,
}

impl Figures {
    /// No results yet.
    pub(super) fn new(machine: Value, settings: Value) -> Self {
        Self { machine, settings, ..Self::default() }
    }

    /// Adds one run's value of one side.
    pub(super) fn note(&mut self, what: String, unit: &'static str, side: &str, value: f64) {
        let at = self.figures.iter().position(|figure| figure.what == what).unwrap_or_else(|| {
            self.figures.push(Figure { what, unit, system: vec![], ceiling: vec![], no_past: vec![] });
            self.figures.len() - 1
        });
        let figure = &mut self.figures[at];
        let values = match side {
            SYSTEM => &mut figure.system,
            CEILING => &mut figure.ceiling,
            _ => &mut figure.no_past,
        };
        values.push(value);
    }

    /// Adds the CPU time that processes spent between two snapshots, during which `actions` were completed.
    pub(super) fn spent(&mut self, what: String, [before, after]: [&ByProcess; 2], actions: usize) {
        let at = self.cpu.iter().position(|spent| spent.what == what).unwrap_or_else(|| {
            self.cpu.push(Spent { what, by_process: BTreeMap::new() });
            self.cpu.len() - 1
        });
        for (name, after) in after {
            let before = before.get(name).map_or(0.0, |before| before.cpu);
            let spent = (after.cpu - before) * 1_000.0 / actions as f64;
            self.cpu[at].by_process.entry(name.clone()).or_default().push(spent);
        }
    }

    /// Adds samples of processes' memory at full rate.
    pub(super) fn seen(&mut self, samples: &[ByProcess]) {
        for (name, usage) in samples.iter().flatten() {
            let memory = self.memory.entry(name.clone()).or_default();
            memory.steady.push(usage.resident);
            memory.peak = memory.peak.max(usage.peak);
        }
    }

    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_preset(UTF8_HORIZONTAL_ONLY)
            .set_header(["", "system", "min", "max", "ceiling", "ratio", "no past", "ratio"]);
        let show = |value: f64| if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        for figure in &self.figures {
            let (system, ceiling) = (median(&figure.system), median(&figure.ceiling));
            let no_past = |text: &dyn Fn() -> String| match figure.no_past.is_empty() {
                true => String::new(),
                false => text(),
            };
            let edge =
                |pick: fn(f64, f64) -> f64| figure.system.iter().copied().reduce(pick).unwrap_or(f64::NAN);
            table.add_row([
                format!("{}, {}", figure.what, figure.unit),
                show(system),
                show(edge(f64::min)),
                show(edge(f64::max)),
                show(ceiling),
                format!("{:.2}", ratio(&figure.system, &figure.ceiling)),
                no_past(&|| show(median(&figure.no_past))),
                no_past(&|| format!("{:.2}", ratio(&figure.system, &figure.no_past))),
            ]);
        }
        let mut memory = Table::new();
        memory.load_preset(UTF8_HORIZONTAL_ONLY).set_header([
            "process",
            "steady MiB at full rate",
            "most",
            "peak MiB",
        ]);
        for (name, Memory { steady, peak }) in &self.memory {
            let most = steady.iter().copied().fold(0.0, f64::max);
            let figures = [median(steady), most, *peak].map(|mebibytes| format!("{mebibytes:.0}"));
            memory.add_row([name.clone()].into_iter().chain(figures));
        }
        let lag = self.lag.iter().copied().fold(0.0, f64::max);
        let mut ledger = Table::new();
        ledger.load_preset(UTF8_HORIZONTAL_ONLY).set_header(["with a large ledger", "seconds", "peak MiB"]);
        for Timed { what, seconds, peak } in &self.ledger {
            ledger.add_row([what.clone(), format!("{seconds:.2}"), format!("{peak:.0}")]);
        }
        let ledger = if self.ledger.is_empty() { String::new() } else { format!("{ledger}\n") };
        let fairness = fairness::table(&self.fairness);
        format!(
            "{table}\n{fairness}\n{}\n{memory}\n{ledger}the ledger's lag when the last outcome arrived, at worst: {lag:.2} s",
            self.cpu_table()
        )
    }

    fn cpu_table(&self) -> Table {
        let processes: BTreeSet<&String> =
            self.cpu.iter().flat_map(|spent| spent.by_process.keys()).collect();
        let mut table = Table::new();
        let header = ["CPU s per 1,000 actions", "in all"].into_iter();
        table
            .load_preset(UTF8_HORIZONTAL_ONLY)
            .set_header(header.chain(processes.iter().map(|name| name.as_str())));
        for Spent { what, by_process } in &self.cpu {
            let of = |name: &&String| by_process.get(*name).map_or(0.0, |runs| median(runs));
            let spent: Vec<f64> = processes.iter().map(of).collect();
            let figures = [spent.iter().sum()].into_iter().chain(spent);
            table.add_row([what.clone()].into_iter().chain(figures.map(|cpu| format!("{cpu:.3}"))));
        }
        table
    }
}
