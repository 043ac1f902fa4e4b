//! The limit of a rule.

use std::time::Duration;

use countersign_core::verdict::Verdict;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{problems::Problems, yaml::line};
use crate::{expr::CONDITION, limit};

const LEAST_PERIOD: Duration = Duration::from_secs(1);
const MOST_PERIOD: Duration = Duration::from_secs(366 * 24 * 3600);
const MAX_KEYS: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    sum: Option<Spanned<String>>,
    count: Option<Spanned<bool>>,
    by: Vec<Spanned<String>>,
    within: Spanned<String>,
    max: Spanned<String>,
    exceeded: Spanned<Verdict>,
}

impl Limit {
    /// Checks the limit, which begins on line `at`.
    pub(super) fn into_model(self, problems: &mut Problems, at: u64) -> Option<limit::Limit> {
        let sum = match (&self.sum, self.count.as_ref().is_some_and(|count| count.value)) {
            (Some(sum), false) => Some(problems.expression("sum", sum, &CONDITION)?),
            (None, true) => None,
            _ => {
                let help = "write either sum: action.arguments.amount or count: true";
                problems.add(at, "the limit does not have exactly one of sum and count", help);
                return None;
            }
        };
        if !(1..=MAX_KEYS).contains(&self.by.len()) {
            let message = format!("the limit has {} keys", self.by.len());
            problems.add(at, message, format!("write 1 to {MAX_KEYS}, such as by: [agent.on_behalf_of]"));
        }
        let by: Vec<_> = self.by.iter().map(|key| problems.expression("by", key, &CONDITION)).collect();
        let within = problems.duration("within", &self.within, LEAST_PERIOD, MOST_PERIOD);
        let max: Option<Decimal> =
            self.max.value.parse().ok().filter(|max: &Decimal| !max.is_sign_negative());
        if max.is_none() {
            let message = format!("max {:?} is not an amount", self.max.value);
            problems.add(line(&self.max), message, "write a decimal number as a string, such as \"10000\"");
        }
        if self.exceeded.value == Verdict::Allow {
            let message = "a limit that allows what exceeds it has no effect";
            problems.add(line(&self.exceeded), message, "write require_approval or deny");
        }
        let text = self.text();
        let by: Option<Vec<_>> = by.into_iter().collect();
        Some(limit::Limit {
            sum,
            by: by?,
            within,
            max: max?,
            verdict_when_exceeded: self.exceeded.value,
            text,
        })
    }

    fn text(&self) -> String {
        let by: Vec<&str> = self.by.iter().map(|key| key.value.as_str()).collect();
        format!(
            "at most {} of {} by {} within {}",
            self.max.value,
            self.sum.as_ref().map_or("actions", |sum| sum.value.as_str()),
            by.join(" and "),
            self.within.value,
        )
    }
}
