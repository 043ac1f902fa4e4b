//! Cumulative limits of rules: against splitting one large action into many small ones.

use std::time::Duration;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::expr::{Bindings, CONDITION, Expression};
use super::policy_file::Reader;
use super::yaml::line;
use countersign_core::verdict::Verdict;

const LEAST_PERIOD: Duration = Duration::from_secs(1);
const MOST_PERIOD: Duration = Duration::from_secs(366 * 24 * 3600);
const MAX_KEYS: usize = 5;
const MAX_KEY_BYTES: usize = 512;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimit {
    sum: Option<Spanned<String>>,
    count: Option<Spanned<bool>>,
    by: Vec<Spanned<String>>,
    within: Spanned<String>,
    max: Spanned<String>,
    exceeded: Spanned<Verdict>,
}

/// At most so much by the same key within a time.
#[derive(Debug)]
pub(super) struct Limit {
    /// What one action adds; none counts actions.
    sum: Option<Expression>,
    by: Vec<Expression>,
    pub(super) within: Duration,
    pub(super) max: Decimal,
    pub(super) exceeded: Verdict,
    text: String,
}

/// What an action adds to a limit, and what it may come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitUse {
    /// Together with the rule's id it says whose sum it is: a JSON array of texts.
    pub key: String,
    /// What this action adds.
    pub amount: Decimal,
    /// The sum may reach this, and not more.
    pub max: Decimal,
    /// How far back actions count.
    pub within: Duration,
    /// What an action leads to that would exceed it.
    pub exceeded: Verdict,
    /// The limit as it can be told to a human.
    pub text: String,
}

impl Limit {
    /// What the action adds, by which key. An action that cannot be counted is an error.
    pub(super) fn usage(&self, bindings: &Bindings<'_>) -> Result<LimitUse, String> {
        let amount = match &self.sum {
            Some(sum) => decimal(&sum.to_json(bindings)?)?,
            None => Decimal::ONE,
        };
        if amount.is_sign_negative() {
            return Err("the amount is negative".to_owned());
        }
        let mut key = Vec::with_capacity(self.by.len());
        for part in &self.by {
            key.push(match part.to_json(bindings)? {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                _ => return Err("a key of the limit is neither a text nor a number".to_owned()),
            });
        }
        let key = Value::from(key).to_string();
        if key.len() > MAX_KEY_BYTES {
            return Err(format!("the key of the limit has more than {MAX_KEY_BYTES} bytes"));
        }
        let (max, within, exceeded) = (self.max, self.within, self.exceeded);
        Ok(LimitUse { key, amount, max, within, exceeded, text: self.text.clone() })
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = &&'static str> {
        self.sum.iter().chain(&self.by).flat_map(|expression| expression.roots())
    }
}

/// Money travels as a text or an integer, never as a float.
fn decimal(value: &Value) -> Result<Decimal, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return Err("the amount is neither a text nor an integer".to_owned()),
    };
    text.parse().map_err(|_| "the amount is not a decimal number such as \"12.50\"".to_owned())
}

impl Reader {
    /// Checks the limit of a rule.
    pub(super) fn limit(&mut self, raw: Spanned<RawLimit>) -> Option<Limit> {
        let at = line(&raw);
        let raw = raw.value;
        let sum = match (&raw.sum, raw.count.as_ref().is_some_and(|count| count.value)) {
            (Some(sum), false) => Some(self.expression("sum", sum)?),
            (None, true) => None,
            _ => {
                let help = "write sum: action.arguments.amount, or count: true";
                self.problems.add(at, "the limit does not say what it counts", help);
                return None;
            }
        };
        if raw.by.is_empty() || raw.by.len() > MAX_KEYS {
            let message = format!("the limit has {} keys", raw.by.len());
            self.problems.add(
                at,
                message,
                format!("write 1 to {MAX_KEYS}, such as by: [agent.on_behalf_of]"),
            );
        }
        let by: Vec<_> = raw.by.iter().map(|key| self.expression("by", key)).collect();
        let within = self.problems.duration("within", &raw.within, LEAST_PERIOD, MOST_PERIOD);
        let max: Option<Decimal> = raw.max.value.parse().ok().filter(|max: &Decimal| !max.is_sign_negative());
        if max.is_none() {
            let message = format!("max {:?} is not an amount", raw.max.value);
            self.problems.add(line(&raw.max), message, "write a decimal number as a text, such as \"10000\"");
        }
        if raw.exceeded.value == Verdict::Allow {
            let help = "write require_approval or deny";
            self.problems.add(line(&raw.exceeded), "a limit that allows what exceeds it is none", help);
        }
        let by_text: Vec<&str> = raw.by.iter().map(|key| key.value.as_str()).collect();
        let text = format!(
            "at most {} of {} by {} within {}",
            raw.max.value,
            raw.sum.as_ref().map_or("actions", |sum| sum.value.as_str()),
            by_text.join(" and "),
            raw.within.value,
        );
        let by: Option<Vec<_>> = by.into_iter().collect();
        Some(Limit { sum, by: by?, within, max: max?, exceeded: raw.exceeded.value, text })
    }

    fn expression(&mut self, field: &str, text: &Spanned<String>) -> Option<Expression> {
        match Expression::compile(&text.value, &CONDITION) {
            Ok(expression) => Some(expression),
            Err(complaints) => {
                for complaint in complaints {
                    self.problems.add(line(text), format!("{field}: {}", complaint.message), complaint.help);
                }
                None
            }
        }
    }
}
