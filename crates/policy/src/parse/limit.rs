//! The limit of a rule.

use std::time::Duration;

use countersign_core::verdict::Verdict;
use serde::Deserialize;
use serde_json::json;
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use super::{problems::Problems, yaml::line};
use crate::{
    amount,
    expr::{CONDITION, canonical},
    hex::hex,
    limit,
};

const LEAST_PERIOD: Duration = Duration::from_secs(1);
const MOST_PERIOD: Duration = Duration::from_secs(366 * 24 * 3600);
const MAX_KEYS: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    id: Option<Spanned<String>>,
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
        let max = amount::parse(&self.max.value).and_then(|max| amount::countable(max).ok());
        if max.is_none() {
            let message = format!("max {:?} is not an amount that a limit can count", self.max.value);
            let help = "write a decimal number as a string, such as \"10000\": up to 10^18, with at most 9 decimal places";
            problems.add(line(&self.max), message, help);
        }
        if self.exceeded.value == Verdict::Allow {
            let message = "a limit that allows what exceeds it has no effect";
            problems.add(line(&self.exceeded), message, "write require_approval or deny");
        }
        if let Some(id) = &self.id {
            problems.id("a limit", id);
        }
        let (text, identity) = (self.text(), self.identity(within));
        let by: Option<Vec<_>> = by.into_iter().collect();
        Some(limit::Limit {
            identity,
            named: self.id.is_some(),
            sum,
            by: by?,
            within,
            max: max?,
            verdict_when_exceeded: self.exceeded.value,
            text,
            line: at,
        })
    }

    /// What makes it the same limit under another policy. A digest has a colon, which no id has.
    fn identity(&self, within: Duration) -> String {
        if let Some(id) = &self.id {
            return id.value.clone();
        }
        let sum = self.sum.as_ref().map(|sum| canonical(&sum.value));
        let by: Vec<_> = self.by.iter().map(|key| canonical(&key.value)).collect();
        let counted = json!({"sum": sum, "by": by, "within": within.as_millis().to_string()});
        format!("sha256:{}", hex(&Sha256::digest(counted.to_string())))
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
