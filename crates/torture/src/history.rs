//! The history as data: every entry is logged right before or after its fact, by one clock.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use countersign_core::{
    action::Outcome,
    message::{Decision, Finding},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The phase of a client's operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// About to be sent; it may take effect from here on.
    Invoke,
    /// Confirmed by the broker.
    Ok,
    /// Certainly not sent.
    Fail,
    /// Sent and not confirmed.
    Unknown,
}

/// What an agent proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Allowed; its tool honours idempotency keys.
    Record,
    /// Allowed; a second call is a second effect.
    Letter,
    /// Needs one approver.
    Large,
    /// Needs two of treasury and one of risk.
    Quorum,
    /// Needs one approver, within a second.
    Soon,
    /// Allowed, as long as all that is spent stays below a limit.
    Spend,
}

/// The most that may be spent for a customer.
pub(crate) const SPENDING_MAX: u64 = 5_000;

/// Spent by each action that spends.
pub(crate) const SPENT: u64 = 200;

/// The customer for whom the action with this id spends: the same one for so many actions that the limit is exceeded.
pub(crate) fn customer(action: &str) -> String {
    let number = action.rsplit('-').next().and_then(|number| number.parse::<u32>().ok());
    format!("customer:{}", number.unwrap_or_default() / 300)
}

impl Kind {
    /// The tool of the suites' configuration.
    pub(crate) fn tool(self) -> &'static str {
        match self {
            Kind::Record => "write_record",
            Kind::Letter => "send_letter",
            Kind::Large => "move_money",
            Kind::Quorum => "pay",
            Kind::Soon => "soon",
            Kind::Spend => "spend",
        }
    }

    /// Whether a call may be repeated.
    pub(crate) fn idempotent(self) -> bool {
        self != Kind::Letter
    }

    /// The approvals required, as (count, people). Who is in two groups counts once. `tight`: under the stricter policy.
    pub(crate) fn needs(self, tight: bool) -> &'static [(usize, &'static [&'static str])] {
        match self {
            Kind::Record if tight => &[(1, &["sam", "mara"])],
            Kind::Record | Kind::Letter | Kind::Spend => &[],
            Kind::Large | Kind::Soon => &[(1, &["sam", "mara"])],
            Kind::Quorum => &[(2, &["tara", "tom", "bea"]), (1, &["rob", "bea"])],
        }
    }

    /// Whether an edit also approves the new arguments.
    pub(crate) fn edit_counts(self) -> bool {
        self == Kind::Quorum
    }
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Event {
    /// An agent proposes to call its kind's tool with these arguments.
    Proposed { id: String, kind: Kind, arguments: Value, phase: Phase },
    /// An agent receives an outcome.
    OutcomeReceived { id: String, outcome: Outcome },
    /// A reviewer decides on the arguments shown, or by an edit on those written. `event` is the message's id.
    Decided {
        id: String,
        event: String,
        reviewer: String,
        decision: Decision,
        digest: String,
        arguments: Value,
        phase: Phase,
    },
    /// An auditor sends a finding.
    Found { id: String, event: String, auditor: String, finding: Finding, phase: Phase },
    /// The tool service is called. `id` is taken from the arguments.
    Called { id: String, key: String, tool: String, arguments: Value },
    /// The tool service has acted.
    Acted { id: String, key: String, tool: String, arguments: Value },
    /// A fault is about to begin.
    Injected { fault: String },
    /// It has begun.
    Stands { fault: String },
    /// It is about to end.
    Heals { fault: String },
    /// The broker has accepted a message of the hostile agent that the database refuses.
    Poisoned { id: String },
    /// All faults are over, and the clients go on.
    Calm,
}

/// A fact with its time, as written to the file.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    seconds: f64,
    #[serde(flatten)]
    event: &'a Event,
}

struct Log {
    file: BufWriter<File>,
    events: Vec<(Duration, Event)>,
}

/// The history of one run, shared by all who log to it.
#[derive(Clone)]
pub(crate) struct History {
    log: Arc<Mutex<Log>>,
    started: Instant,
}

impl History {
    /// Creates a history that is also written to a file as JSON lines.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let log = Log { file: BufWriter::new(file), events: Vec::new() };
        Ok(Self { log: Arc::new(Mutex::new(log)), started: Instant::now() })
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a fact. The order of calls is the order of the history.
    pub(crate) fn log(&self, event: Event) {
        let mut log = self.lock();
        let at = self.started.elapsed();
        let entry = Entry { seconds: at.as_secs_f64(), event: &event };
        // The file is for people; what is checked is in memory.
        let _ = serde_json::to_writer(&mut log.file, &entry).map(|()| log.file.write_all(b"\n"));
        log.events.push((at, event));
    }

    /// Whether the tool service has acted for an action.
    pub(crate) fn acted(&self, action: &str) -> bool {
        let acted = |event: &Event| matches!(event, Event::Acted { id, .. } if id == action);
        self.lock().events.iter().any(|(_, event)| acted(event))
    }

    /// Everything so far; the file has it as well.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut log = self.lock();
        let _ = log.file.flush();
        log.events.iter().map(|(_, event)| event.clone()).collect()
    }

    /// The same with the time of each event since the run began.
    pub(crate) fn timed(&self) -> Vec<(Duration, Event)> {
        self.lock().events.clone()
    }
}
