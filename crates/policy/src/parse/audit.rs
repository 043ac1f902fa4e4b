//! The audit and switching of a rule, and the settings for all audits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use countersign_statistics::switching::{Caps, MostUndetected, Plan, Unreachable, Wanted};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{problems::Problems, reader::Reader, yaml::line};
use crate::{
    audit::{self, AuditSpec},
    expr::{CONDITION, Expression, SCORE},
    score::ScoreExpression,
};

const MAX_LOOK_BACK: u32 = 1_000;
const DEFAULT_LAG: u32 = 100;
const MAX_LAG: u32 = 1_000_000;
/// How long an audit may take unless the policy says so: a week has working days in it everywhere.
const DEFAULT_AUDIT_DUE: Duration = Duration::from_secs(7 * 86_400);
const MAX_UNDETECTED: u64 = 1_000_000_000;
/// More would leave auditors less time for what is not known than for what is.
const MAX_GOLD: f64 = 0.5;
const MAX_CODES: usize = 50;
const LEAST_DUE: Duration = Duration::from_secs(1);
const MOST_DUE: Duration = Duration::from_secs(366 * 86_400);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    rate: Spanned<f64>,
    floor: Option<Spanned<f64>>,
    #[serde(default)]
    at_least: u32,
    group: Spanned<String>,
    band: Option<Spanned<String>>,
    pub(super) score: Option<Spanned<String>>,
    ceiling: Option<Spanned<f64>>,
}

impl Audit {
    /// Checks the audit of a rule. Also returns the expressions of its risk band and its score.
    pub(super) fn into_model(
        self,
        reader: &mut Reader,
    ) -> (AuditSpec, Option<Expression>, Option<ScoreExpression>) {
        let problems = &mut reader.problems;
        let rate = probability(problems, "rate", &self.rate);
        let floor = self.floor.as_ref().map_or(rate, |floor| probability(problems, "floor", floor));
        if let Some(given) = self.floor.as_ref().filter(|_| floor > rate) {
            let message = format!("the floor {floor} is above the rate {rate}");
            problems.add(line(given), message, "write a floor of at most the rate, or omit it");
        }
        let ceiling = self.ceiling.as_ref().map_or(1.0, |given| probability(problems, "ceiling", given));
        if let Some(given) = &self.ceiling {
            let help = "the ceiling is the most that a score raises the rate to: write one above the rate, or omit it";
            if self.score.is_none() {
                problems.add(line(given), "the audit has a ceiling and no score", help);
            } else if ceiling < rate {
                problems.add(line(given), format!("the ceiling {ceiling} is below the rate {rate}"), help);
            }
        }
        let band = self.band.and_then(|band| problems.expression("band", &band, &CONDITION));
        let score = self.score.and_then(|score| {
            let expression = problems.expression("score", &score, &SCORE)?;
            Some(ScoreExpression { expression, line: line(&score) })
        });
        reader.references.auditing(&self.group, 1);
        (AuditSpec { rate, floor, ceiling, at_least: self.at_least, group: self.group.value }, band, score)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Switching {
    limit: f64,
    aoql: f64,
    lag: Option<u32>,
    due: Option<Spanned<String>>,
    at_most: Option<Spanned<AtMost>>,
    #[serde(default)]
    look_back: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtMost {
    errors: u64,
    #[serde(default)]
    rate: f64,
}

impl Switching {
    /// Solves the sampling plan of a rule with this audit. `at` is the line of `switching`.
    pub(super) fn into_model(
        self,
        problems: &mut Problems,
        at: u64,
        audit: &AuditSpec,
    ) -> Option<audit::Switching> {
        let Switching { limit, aoql, lag, due, at_most, look_back } = self;
        let lag = lag.unwrap_or(DEFAULT_LAG);
        if !(1..=MAX_LAG).contains(&lag) {
            let help = format!(
                "write how many actions may be executed after one whose audit is not settled, 1 to {MAX_LAG}"
            );
            problems.add(at, format!("lag is {lag}"), help);
        }
        if look_back > MAX_LOOK_BACK {
            let message = format!("look_back is {look_back}");
            problems.add(at, message, format!("write 0 to {MAX_LOOK_BACK} actions"));
        }
        let due = due.as_ref().map(|due| problems.duration("due", due, LEAST_DUE, MOST_DUE));
        let due = due.unwrap_or(DEFAULT_AUDIT_DUE);
        let at_most = at_most.map(|given| undetected(problems, audit.floor, &given));
        match solve(Wanted { limit, pi: audit.floor, aoql, lag }) {
            Ok(plan) => Some(audit::Switching { plan, caps: Caps { lag, due, at_most }, look_back }),
            Err(unreachable) => {
                let help = "adjust limit (the acceptable error rate, 0 to 0.33), aoql (the share of all actions that \
                            may be wrong and undetected in the long run) or lag (the number of actions until a verdict \
                            is known)";
                problems.add(at, format!("switching: {unreachable}"), help);
                None
            }
        }
    }
}

/// Checks a cap on undetected errors, where π is at least `pi`.
fn undetected(problems: &mut Problems, pi: f64, given: &Spanned<AtMost>) -> MostUndetected {
    let AtMost { errors, rate } = given.value;
    if !(0.0..1.0).contains(&rate) || errors > MAX_UNDETECTED {
        let help = format!(
            "write a number of errors up to {MAX_UNDETECTED} and, if more may be undetected of many actions, a rate \
             below 1.0"
        );
        problems.add(line(given), format!("at_most has errors {errors} and rate {rate}"), help);
    }
    let least = MostUndetected::least(pi);
    if errors < least {
        let message = format!(
            "at_most allows {errors} undetected errors, and with audits of a share of {pi} as many as {least} cannot be \
             ruled out even if none is ever found"
        );
        let help = format!("allow at least {least}, and more for errors that are found, or audit more");
        problems.add(line(given), message, help);
    }
    MostUndetected { errors, rate }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audits {
    #[serde(default)]
    first: u32,
    #[serde(default)]
    failed: u32,
    not_executed: Option<Spanned<f64>>,
    twice: Option<Spanned<f64>>,
    gold: Option<Spanned<f64>>,
    #[serde(default)]
    capacity: BTreeMap<String, Spanned<f64>>,
    #[serde(default)]
    reason_codes: Vec<Spanned<String>>,
    remediation: Option<Remediation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remediation {
    owner: Option<Spanned<String>>,
    due: Option<Spanned<String>>,
}

impl Audits {
    /// Checks the settings for all audits.
    pub(super) fn into_model(self, reader: &mut Reader) -> audit::Audits {
        let problems = &mut reader.problems;
        let mut share = |name, given: &Option<Spanned<f64>>| {
            given.as_ref().map_or(0.0, |given| probability(problems, name, given))
        };
        let (not_executed, twice) = (share("not_executed", &self.not_executed), share("twice", &self.twice));
        let gold = self.gold.as_ref().map_or(0.0, |given| gold(problems, given));
        for (group, capacity) in &self.capacity {
            if !(capacity.value > 0.0 && capacity.value.is_finite()) {
                let message = format!("the capacity of {group:?} is {} audits per hour", capacity.value);
                problems.add(line(capacity), message, "write a number above 0");
            }
        }
        if let Some(code) = self.reason_codes.get(MAX_CODES) {
            let message = format!("reason_codes has {} entries", self.reason_codes.len());
            problems.add(line(code), message, format!("list at most {MAX_CODES}"));
        }
        for code in &self.reason_codes {
            problems.id("a reason", code);
        }
        let remediation = self.remediation.unwrap_or(Remediation { owner: None, due: None });
        let due = remediation.due.as_ref().map(|due| problems.duration("due", due, LEAST_DUE, MOST_DUE));
        if let Some(owner) = &remediation.owner {
            reader.references.named(owner);
        }
        audit::Audits {
            first: self.first,
            failed: self.failed,
            not_executed,
            twice,
            gold,
            gold_line: self.gold.as_ref().map_or(0, line),
            capacity: self.capacity.into_iter().map(|(group, capacity)| (group, capacity.value)).collect(),
            reason_codes: self.reason_codes.into_iter().map(|code| code.value).collect(),
            owner: remediation.owner.map(|owner| owner.value),
            due: due.unwrap_or(audit::Audits::default().due),
        }
    }
}

fn probability(problems: &mut Problems, name: &str, given: &Spanned<f64>) -> f64 {
    let value = given.value;
    if (0.0..=1.0).contains(&value) {
        return value;
    }
    let message = format!("the {name} {value} is not a probability");
    problems.add(line(given), message, "write a number from 0.0 (never) to 1.0 (always)");
    0.0
}

fn gold(problems: &mut Problems, given: &Spanned<f64>) -> f64 {
    let value = given.value;
    if (0.0..=MAX_GOLD).contains(&value) {
        return value;
    }
    let message = format!("gold is {value}");
    let help = format!(
        "write how many audits of which the right finding is known are mixed in for each audit that is drawn, from 0 (none) \
         to {MAX_GOLD}"
    );
    problems.add(line(given), message, help);
    0.0
}

/// Solving a plan takes a moment, and every process parses the same policy many times, so solutions are cached.
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
