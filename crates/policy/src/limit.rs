//! Cumulative limits of rules. They prevent one large action from being split into many small ones.

use std::time::Duration;

use countersign_core::verdict::Verdict;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::expr::{Bindings, Expression};

const MAX_KEY_BYTES: usize = 512;

/// A maximum for the sum or number of actions with the same key within a period.
#[derive(Debug)]
pub(crate) struct Limit {
    /// What one action adds; `None` counts actions.
    pub(crate) sum: Option<Expression>,
    pub(crate) by: Vec<Expression>,
    pub(crate) within: Duration,
    pub(crate) max: Decimal,
    pub(crate) verdict_when_exceeded: Verdict,
    pub(crate) text: String,
}

/// What one action adds to a limit. The caller keeps the sums: this crate has no state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitUse {
    /// Identifies the sum together with the rule's id: a JSON array of strings.
    pub key: String,
    /// What this action adds.
    pub amount: Decimal,
    /// The sum may reach this, but not exceed it.
    pub max: Decimal,
    /// How far back actions count.
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
                _ => return Err("a key of the limit is neither a string nor a number".to_owned()),
            });
        }
        let key = Value::from(key).to_string();
        if key.len() > MAX_KEY_BYTES {
            return Err(format!("the key of the limit is longer than {MAX_KEY_BYTES} bytes"));
        }
        Ok(LimitUse {
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
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return Err("the amount is neither a string nor an integer".to_owned()),
    };
    text.parse().map_err(|_| "the amount is not a decimal number such as \"12.50\"".to_owned())
}
