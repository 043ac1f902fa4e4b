//! Feedback from reviewers and auditors to agents and those who train them.

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

/// What the feedback is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackKind {
    /// A reviewer rejected the action, or answered with a message, before it had an effect.
    Rejection,
    /// A reviewer replaced the agent's arguments.
    Edit,
    /// An auditor found the executed action wrong.
    Correction,
}

/// `countersign.feedback.v1`: what a reviewer decided or an auditor found about an action.
///
/// Nothing in it says how likely the audit was: from inclusion probabilities an agent would learn when its first actions are
/// no longer all audited, and when its plan is no longer tightened. The exports have them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FeedbackData {
    /// The proposal's `source` and `id`.
    pub action: ActionRef,
    /// What the feedback is about.
    pub kind: FeedbackKind,
    /// What the agent proposed, or what was executed.
    pub call: Call,
    /// What the call should have been; absent if unknown, or if nothing should have been called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Call>,
    /// From `call` to `corrected`, as JSON Patch (RFC 6902).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<Value>,
    /// Why, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// How bad it was, by an auditor's finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// The agent, in canonical form: `id`, `version`, `model`, `on_behalf_of`.
    #[schemars(with = "Value")]
    pub agent: Box<RawValue>,
    /// The rule that decided on it.
    pub rule: String,
    /// The policy's version.
    pub policy_version: String,
}

impl Call {
    /// The call that a correction describes; members it leaves out are unchanged. `None` if it has neither `tool` nor
    /// `arguments`, or states that nothing should have been called.
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

    /// The JSON Patch from this call to `other`.
    pub fn patch(&self, other: &Call) -> Option<Value> {
        let (this, other) = (serde_json::to_value(self).ok()?, serde_json::to_value(other).ok()?);
        serde_json::to_value(json_patch::diff(&this, &other)).ok()
    }

    /// The JSON Patch that a correction describes: to another call, or to none. `None` if the correction is empty.
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
    fn a_correction_states_only_what_should_have_differed() {
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
