//! What `policy.yaml` says about audits, and its way to [`AuditSpec`], [`Switching`] and [`Audits`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::expr::{CONDITION, Expression};
use super::policy_file::Reader;
use super::yaml::line;
use countersign_statistics::switching::{Plan, Unreachable, Wanted};

/// How often an executed action is audited, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditSpec {
    /// The inclusion probability that is wanted, 0 to 1.
    pub rate: f64,
    /// Below this, capacity never takes it. The rate itself where the policy says nothing.
    pub floor: f64,
    /// So many audits of a stratum are wanted in an epoch; 0 asks for none beyond the rate.
    pub at_least: u32,
    /// The group of auditors.
    pub group: String,
}

impl AuditSpec {
    /// π before the limits of capacity: max(rate, n/N), where N is how many actions are expected; 1 where nobody knows.
    pub fn wanted(&self, expected: u64) -> f64 {
        let share = match (self.at_least, expected) {
            (0, _) => 0.0,
            (_, 0) => 1.0,
            (n, expected) => f64::from(n) / expected as f64,
        };
        share.max(self.rate).min(1.0)
    }

    /// π: what is wanted, times what capacity leaves of it, and never below the floor.
    pub fn pi(&self, wanted: f64, left: f64) -> f64 {
        (wanted * left).clamp(self.floor, 1.0)
    }
}

/// What a rule says that moves between approval and audit.
#[derive(Debug, Clone, PartialEq)]
pub struct Switching {
    /// The numbers of the switch.
    pub plan: Plan,
    /// So many of the last actions are audited when a class goes back to approval.
    pub look_back: u32,
}

/// What holds for all audits.
#[derive(Debug, Clone, PartialEq)]
pub struct Audits {
    /// So many actions of a new agent, model, policy or tool version are all audited.
    pub first: u32,
    /// So many failed executions of an epoch are all audited.
    pub failed: u32,
    /// The inclusion probability of what was rejected or denied.
    pub not_executed: f64,
    /// The share of audits that two people evaluate, blind to each other.
    pub twice: f64,
    /// Audits an hour that a group can evaluate; a group that is not named judges any number.
    pub capacity: BTreeMap<String, f64>,
    /// The codes of what can be wrong; any where there are none.
    pub reason_codes: Vec<String>,
    /// The group that remedies what cannot be undone; the audit's own where the policy names none.
    pub owner: Option<String>,
    /// How long they have.
    pub due: Duration,
}

impl Default for Audits {
    fn default() -> Self {
        Self {
            first: 0,
            failed: 0,
            not_executed: 0.0,
            twice: 0.0,
            capacity: BTreeMap::new(),
            reason_codes: vec![],
            owner: None,
            due: Duration::from_secs(7 * 86_400),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudit {
    rate: Spanned<f64>,
    floor: Option<Spanned<f64>>,
    #[serde(default)]
    at_least: u32,
    group: Spanned<String>,
    band: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSwitching {
    limit: f64,
    aoql: f64,
    #[serde(default)]
    lag: u32,
    #[serde(default)]
    look_back: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudits {
    #[serde(default)]
    first: u32,
    #[serde(default)]
    failed: u32,
    not_executed: Option<Spanned<f64>>,
    twice: Option<Spanned<f64>>,
    #[serde(default)]
    capacity: BTreeMap<String, Spanned<f64>>,
    #[serde(default)]
    reason_codes: Vec<Spanned<String>>,
    remediation: Option<RawRemediation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRemediation {
    owner: Option<Spanned<String>>,
    due: Option<Spanned<String>>,
}

const MAX_LOOK_BACK: u32 = 1_000;
const MAX_CODES: usize = 50;
const LEAST_DUE: Duration = Duration::from_secs(1);
const MOST_DUE: Duration = Duration::from_secs(366 * 86_400);

impl Reader {
    /// The audit of a rule, and the expression of its risk band.
    pub(super) fn audit(&mut self, raw: RawAudit) -> (AuditSpec, Option<Expression>) {
        let rate = self.probability("rate", &raw.rate);
        let floor = raw.floor.as_ref().map_or(rate, |floor| self.probability("floor", floor));
        if let Some(given) = raw.floor.as_ref().filter(|_| floor > rate) {
            let message = format!("the floor {floor} is above the rate {rate}");
            self.problems.add(line(given), message, "write a floor up to the rate, or leave it out");
        }
        self.references.auditing(&raw.group, 1);
        let band = raw.band.and_then(|band| match Expression::compile(&band.value, &CONDITION) {
            Ok(compiled) => Some(compiled),
            Err(complaints) => {
                for complaint in complaints {
                    self.problems.add(line(&band), format!("band: {}", complaint.message), complaint.help);
                }
                None
            }
        });
        (AuditSpec { rate, floor, at_least: raw.at_least, group: raw.group.value }, band)
    }

    pub(super) fn switching(&mut self, raw: &Spanned<RawSwitching>, audit: &AuditSpec) -> Option<Switching> {
        let at = line(raw);
        let RawSwitching { limit, aoql, lag, look_back } = raw.value;
        if look_back > MAX_LOOK_BACK {
            let message = format!("look_back is {look_back}");
            self.problems.add(at, message, format!("write 0 to {MAX_LOOK_BACK} actions"));
        }
        match solve(Wanted { limit, pi: audit.floor, aoql, lag }) {
            Ok(plan) => Some(Switching { plan, look_back }),
            Err(unreachable) => {
                let help = "limit: the error rate put up with (0 to 0.33), aoql: the share of all actions that may be \
                            wrong and undetected in the long run, lag: actions until a verdict is known";
                self.problems.add(at, format!("switching: {unreachable}"), help);
                None
            }
        }
    }

    pub(super) fn audits(&mut self, raw: Option<RawAudits>) -> Audits {
        let Some(raw) = raw else { return Audits::default() };
        let mut share = |name, given: &Option<Spanned<f64>>| {
            given.as_ref().map_or(0.0, |given| self.probability(name, given))
        };
        let (not_executed, twice) = (share("not_executed", &raw.not_executed), share("twice", &raw.twice));
        for (group, capacity) in &raw.capacity {
            if !(capacity.value > 0.0 && capacity.value.is_finite()) {
                let message = format!("{group:?} can evaluate {} audits an hour", capacity.value);
                self.problems.add(line(capacity), message, "write a number above 0");
            }
        }
        if let Some(code) = raw.reason_codes.get(MAX_CODES) {
            self.problems.add(line(code), "too many reason_codes", format!("keep it within {MAX_CODES}"));
        }
        for code in &raw.reason_codes {
            self.problems.id("a reason", code);
        }
        let remediation = raw.remediation.unwrap_or(RawRemediation { owner: None, due: None });
        if let Some(owner) = &remediation.owner {
            self.references.named(owner);
        }
        let due = remediation.due.as_ref().map(|due| self.problems.duration("due", due, LEAST_DUE, MOST_DUE));
        Audits {
            first: raw.first,
            failed: raw.failed,
            not_executed,
            twice,
            capacity: raw.capacity.into_iter().map(|(group, capacity)| (group, capacity.value)).collect(),
            reason_codes: raw.reason_codes.into_iter().map(|code| code.value).collect(),
            owner: remediation.owner.map(|owner| owner.value),
            due: due.unwrap_or(Audits::default().due),
        }
    }

    fn probability(&mut self, name: &str, given: &Spanned<f64>) -> f64 {
        let value = given.value;
        if (0.0..=1.0).contains(&value) {
            return value;
        }
        let message = format!("the {name} {value} is not a probability");
        self.problems.add(line(given), message, "write 0.0 (never) to 1.0 (always)");
        0.0
    }
}

/// A plan takes a moment to solve, and every process reads the same policy again and again.
fn solve(wanted: Wanted) -> Result<Plan, Unreachable> {
    type Solved = HashMap<[u64; 4], Result<Plan, Unreachable>>;
    static SOLVED: LazyLock<Mutex<Solved>> = LazyLock::new(Mutex::default);
    let key = [wanted.limit.to_bits(), wanted.pi.to_bits(), wanted.aoql.to_bits(), wanted.lag.into()];
    let known = SOLVED.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
    known.unwrap_or_else(|| {
        let solved = Plan::solve(wanted);
        SOLVED.lock().unwrap_or_else(PoisonError::into_inner).insert(key, solved);
        solved
    })
}
