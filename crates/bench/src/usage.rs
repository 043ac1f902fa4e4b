//! The resources that processes have used, from /proc.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, interval_at};

/// CPU time in seconds, resident memory now and at its peak in MiB.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Usage {
    pub(super) cpu: f64,
    pub(super) resident: f64,
    pub(super) peak: f64,
}

/// Usage by the names of processes.
pub(super) type ByProcess = BTreeMap<String, Usage>;

/// The sampling interval. A snapshot takes about two milliseconds.
const EVERY: Duration = Duration::from_millis(500);

/// Runs `work` and takes snapshots meanwhile. Returns all snapshots, including one at the end.
pub(super) async fn watched<T>(scratch: &Path, work: impl Future<Output = T>) -> (T, Vec<ByProcess>) {
    let (mut samples, mut every) = (Vec::new(), interval_at(Instant::now() + EVERY, EVERY));
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = every.tick() => samples.push(snapshot(scratch)),
        }
    };
    samples.push(snapshot(scratch));
    (done, samples)
}

/// The clock ticks of /proc, a hundred a second on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// Usage by process: the roles, `rabbitmq`, `postgres` (all its backends; their memory is mostly shared, so it is not added up), and
/// `bench`, which is the agents, the reviewer's program and the ceiling's lanes.
pub(super) fn snapshot(scratch: &Path) -> ByProcess {
    let mut usage = ByProcess::new();
    let scratch = scratch.display().to_string();
    let broker = fs::read_to_string(format!("{scratch}/rabbitmq/pid")).unwrap_or_default();
    let database = fs::read_to_string(format!("{scratch}/postgres/data/postmaster.pid")).unwrap_or_default();
    let (broker, database) =
        (broker.trim().to_owned(), database.lines().next().unwrap_or_default().to_owned());
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may contain spaces; the following fields do not.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let (parent, ticks) = (fields.get(1).copied().unwrap_or_default(), |at: usize| {
            fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default()
        });
        let name = if pid == broker {
            "rabbitmq".to_owned()
        } else if pid == own {
            "bench".to_owned()
        } else if pid == database || (parent == database && !database.is_empty()) {
            "postgres".to_owned()
        } else {
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            match line.split('\0').nth(1) {
                Some(role) if line.contains(&scratch) && line.contains("--keys") => role.to_owned(),
                _ => continue,
            }
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let mebibytes = |member: &str| {
            let line = status.lines().find(|line| line.starts_with(member)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() / 1_024.0
        };
        let sum = usage.entry(name).or_default();
        sum.cpu += (ticks(11) + ticks(12)) / TICKS;
        if pid == database {
            // The CPU time of backends that have ended.
            sum.cpu += (ticks(13) + ticks(14)) / TICKS;
        }
        sum.resident = sum.resident.max(mebibytes("VmRSS:"));
        sum.peak = sum.peak.max(mebibytes("VmHWM:"));
    }
    usage
}
