//! Feedback from humans to agents and whoever trains them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::Severity;
use crate::ids::ActionRef;

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
}

/// What a human did, so that there is feedback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackKind {
    /// A reviewer rejected the action, or answered with a message, before it had an effect.
    Rejection,
    /// A reviewer put other arguments in place of the agent's.
    Edit,
    /// An auditor found the executed action wrong.
    Correction,
}

/// `countersign.feedback.v1`: what a human decided or found about an action.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FeedbackData {
    /// The proposal's `source` and `id`.
    pub action: ActionRef,
    /// What the human did.
    pub kind: FeedbackKind,
    /// What the agent proposed, or what was executed.
    pub call: Call,
    /// What it should have been; absent where nobody said, or nothing should have been called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Call>,
    /// From `call` to `corrected`, as JSON Patch (RFC 6902).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<Value>,
    /// Why, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// How bad it was, where an auditor said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// The inclusion probability of the audit that found it; weigh a correction with 1/π.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pi: Option<f64>,
    /// Who acted, in canonical form: id, version, model, on whose behalf.
    #[schemars(with = "Value")]
    pub agent: Box<RawValue>,
    /// The rule that judged it.
    pub rule: String,
    /// The policy's version.
    pub policy_version: String,
}

impl Call {
    /// The corrected call that a correction stands for: what it leaves out is as it was. Nothing where it names
    /// neither a tool nor arguments, or says that nothing should have been called.
    pub fn corrected(&self, correction: &Value) -> Option<Call> {
        let (tool, arguments) = (correction.get("tool"), correction.get("arguments"));
        if tool.or(arguments)?.is_null() {
            return None;
        }
        Some(Call {
            tool: tool.and_then(Value::as_str).unwrap_or(&self.tool).to_owned(),
            arguments: arguments.unwrap_or(&self.arguments).clone(),
        })
    }

    /// The JSON Patch that makes this call another.
    pub fn patch(&self, other: &Call) -> Option<Value> {
        let (this, other) = (serde_json::to_value(self).ok()?, serde_json::to_value(other).ok()?);
        serde_json::to_value(json_patch::diff(&this, &other)).ok()
    }

    /// The JSON Patch that a correction stands for: to another call, or to none. Nothing where it says nothing.
    pub fn correcting(&self, correction: &Value) -> Option<Value> {
        match self.corrected(correction) {
            Some(other) => self.patch(&other),
            None => correction
                .get("tool")
                .filter(|tool| tool.is_null())
                .map(|_| json!([{"op": "replace", "path": "", "value": null}])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_says_only_what_should_have_been_otherwise() {
        let call = Call { tool: "pay".into(), arguments: json!({"amount": "5", "to": "x"}) };
        let amount = call.corrected(&json!({"arguments": {"amount": "4", "to": "x"}})).unwrap();
        assert_eq!((amount.tool.as_str(), &amount.arguments["amount"]), ("pay", &json!("4")));
        let patch = call.patch(&amount).unwrap();
        assert_eq!(patch, json!([{"op": "replace", "path": "/arguments/amount", "value": "4"}]));
        assert_eq!(call.corrected(&json!({"tool": "refund"})).unwrap().arguments, call.arguments);
        assert_eq!((call.corrected(&json!(null)), call.correcting(&json!({}))), (None, None));
        let none = json!({"tool": null});
        assert_eq!(call.corrected(&none), None);
        assert_eq!(call.correcting(&none), Some(json!([{"op": "replace", "path": "", "value": null}])));
    }
}
