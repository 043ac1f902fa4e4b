//! Cumulative limits of rules. They prevent one large action from being split into many small ones.

mod key;

use std::time::Duration;

use countersign_core::verdict::Verdict;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::{
    amount,
    expr::{Bindings, Expression},
};

/// A maximum for the sum or number of actions with the same key within a period.
#[derive(Debug)]
pub(crate) struct Limit {
    /// Its own id, or a digest of what it counts, by what and for how long. The rule that it belongs to does not matter:
    /// a rule of another name does not begin anew.
    pub(crate) identity: String,
    /// Whether the policy's author gave it an id.
    pub(crate) named: bool,
    /// What one action adds; `None` counts actions.
    pub(crate) sum: Option<Expression>,
    pub(crate) by: Vec<Expression>,
    pub(crate) within: Duration,
    pub(crate) max: Decimal,
    pub(crate) verdict_when_exceeded: Verdict,
    pub(crate) text: String,
    /// Where it begins in the file.
    pub(crate) line: u64,
}

/// What one action adds to a limit. The caller keeps the sums: this crate has no state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitUse {
    /// Identifies the limit.
    pub limit: String,
    /// Identifies the sum together with the limit: a JSON array of strings.
    pub key: String,
    /// What this action adds.
    pub amount: Decimal,
    /// The sum may reach this, but not exceed it.
    pub max: Decimal,
    /// How long after their end actions count.
    pub within: Duration,
    /// The verdict on an action that would exceed the limit.
    pub verdict_when_exceeded: Verdict,
    /// The limit as a person reads it.
    pub text: String,
}

impl Limit {
    /// What the action adds, and to which sum. An action that cannot be counted is an error.
    pub(crate) fn usage(&self, bindings: &Bindings<'_>) -> Result<LimitUse, String> {
        let amount = match &self.sum {
            Some(sum) => amount::countable(decimal(&sum.to_json(bindings)?)?)?,
            None => Decimal::ONE,
        };
        let mut keys = Vec::with_capacity(self.by.len());
        for part in &self.by {
            keys.push(match part.to_json(bindings)? {
                Value::String(text) => key::normalised(&text)?,
                Value::Number(number) => number.to_string(),
                _ => return Err("a key of the limit is neither a string nor a number".to_owned()),
            });
        }
        let key = Value::from(keys).to_string();
        if key.len() > key::MAX_BYTES {
            return Err(format!("the key of the limit is longer than {} bytes", key::MAX_BYTES));
        }
        Ok(LimitUse {
            limit: self.identity.clone(),
            key,
            amount,
            max: self.max,
            within: self.within,
            verdict_when_exceeded: self.verdict_when_exceeded,
            text: self.text.clone(),
        })
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = &&'static str> {
        self.sum.iter().chain(&self.by).flat_map(|expression| expression.roots())
    }
}

/// Amounts are strings or integers, never floats, which would not add up exactly.
fn decimal(value: &Value) -> Result<Decimal, String> {
    match value {
        Value::String(text) => amount::parse(text),
        Value::Number(number) if number.is_i64() || number.is_u64() => amount::parse(&number.to_string()),
        _ => return Err("the amount is neither a string nor an integer".to_owned()),
    }
    .ok_or_else(|| "the amount is not a decimal number such as \"12.50\"".to_owned())
}
