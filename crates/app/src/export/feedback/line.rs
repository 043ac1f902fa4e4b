//! Lines in TRL's conversational formats (Hugging Face TRL, "Dataset formats and types"), with additional columns. Every
//! line of a format has the same members, null if absent, so that readers can infer the columns from the first lines.

use std::io;

use countersign_core::{
    ids::ActionRef,
    json::canonical,
    message::{Call, FeedbackData, Severity},
};
use countersign_store::feedback::FeedbackItem;
use serde::Serialize;
use serde_json::Value;

use super::{
    format::FeedbackFormat,
    item::{Example, Payload, Source},
    split::Split,
};
use crate::AppError;

/// Describes the form of a call to the model.
const SYSTEM: &str = "You act by calling tools. Answer with one call and nothing else, as canonical JSON (RFC 8785): \
{\"arguments\":{...},\"tool\":\"name\"}";

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Message {
    role: &'static str,
    content: String,
}

/// The columns that a trainer reads.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Shape {
    /// Preference.
    Dpo { prompt: Vec<Message>, chosen: Vec<Message>, rejected: Vec<Message> },
    /// Unpaired preference.
    Kto { prompt: Vec<Message>, completion: Vec<Message>, label: bool },
    /// Prompt-completion.
    Sft { prompt: Vec<Message>, completion: Vec<Message> },
}

/// What all lines about an action have in common.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Common {
    action: ActionRef,
    agent: String,
    agent_version: Option<String>,
    model: Option<String>,
    rule: String,
    policy_version: String,
    split: Split,
}

impl Common {
    pub(super) fn of(item: &FeedbackItem, payload: &Payload, split: Split) -> Self {
        let agent: Value = serde_json::from_str(payload.agent.get()).unwrap_or_default();
        let said = |member: &str| agent.get(member).and_then(Value::as_str).map(str::to_owned);
        Self {
            action: item.reference.clone(),
            agent: item.agent.clone(),
            agent_version: said("version"),
            model: said("model"),
            rule: item.rule.clone(),
            policy_version: item.policy_version.clone(),
            split,
        }
    }
}

/// A line of training data.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    #[serde(flatten)]
    shape: Shape,
    source: Source,
    weight: f64,
    reason_code: Option<&'a str>,
    severity: Option<Severity>,
    rationale: Option<&'a str>,
    #[serde(flatten)]
    common: &'a Common,
}

/// Feedback as published, with its weight and its side of the split.
#[derive(Debug, Serialize)]
pub(super) struct Plain<'a> {
    #[serde(flatten)]
    data: &'a FeedbackData,
    /// The inclusion probability of the audit that found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pi: Option<f64>,
    weight: f64,
    agent_version: Option<&'a str>,
    model: Option<&'a str>,
    split: Split,
}

/// The line of published feedback; `pi` is that of the audit from which it came.
pub(super) fn plain<'a>(common: &'a Common, data: &'a FeedbackData, pi: Option<f64>) -> Plain<'a> {
    Plain {
        data,
        pi,
        weight: pi.filter(|pi| *pi > 0.0).map_or(1.0, |pi| 1.0 / pi),
        agent_version: common.agent_version.as_deref(),
        model: common.model.as_deref(),
        split: common.split,
    }
}

/// The proposal's task, reason and context as text. `None` if it states none.
pub(super) fn task(body: &Value) -> Option<String> {
    let parts = [("Task", "task"), ("Reason", "reason"), ("Context", "context")];
    let part = |(title, member): (&str, &str)| {
        let said = body.get("data")?.get(member).filter(|said| !said.is_null())?;
        let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
        Some(format!("{title}: {said}"))
    };
    let said: Vec<String> = parts.into_iter().filter_map(part).collect();
    (!said.is_empty()).then(|| said.join("\n"))
}

fn prompt(body: &Value) -> Vec<Message> {
    let task = task(body).unwrap_or_else(|| "No task was stated.".into());
    vec![Message { role: "system", content: SYSTEM.into() }, Message { role: "user", content: task }]
}

fn answer(call: &Call) -> Result<Vec<Message>, AppError> {
    let call = serde_json::to_value(call).map_err(io::Error::from)?;
    let bytes = canonical(&call).map_err(AppError::invalid("a stored call has no canonical form"))?;
    let content = String::from_utf8(bytes).map_err(AppError::invalid("a stored call is not text"))?;
    Ok(vec![Message { role: "assistant", content }])
}

fn shapes(format: FeedbackFormat, body: &Value, example: &Example) -> Result<Vec<Shape>, AppError> {
    let prompt = || prompt(body);
    // Equal calls mean that nobody has stated a better one.
    let better = example.better.as_ref().filter(|better| example.worse.as_ref() != Some(better));
    let better = better.map(answer).transpose()?;
    let worse = example.worse.as_ref().map(answer).transpose()?;
    Ok(match (format, better, worse) {
        (FeedbackFormat::Dpo, Some(chosen), Some(rejected)) => {
            vec![Shape::Dpo { prompt: prompt(), chosen, rejected }]
        }
        (FeedbackFormat::Kto, better, worse) => {
            let labelled = |label| move |completion| (completion, label);
            let (better, worse) = (better.map(labelled(true)), worse.map(labelled(false)));
            let both = better.into_iter().chain(worse);
            both.map(|(completion, label)| Shape::Kto { prompt: prompt(), completion, label }).collect()
        }
        (FeedbackFormat::Sft, Some(completion), _) => vec![Shape::Sft { prompt: prompt(), completion }],
        _ => vec![],
    })
}

/// The lines of an example; none if the format cannot express it. In a format without pairs, a pair becomes two lines, as in
/// TRL's own conversion.
pub(super) fn lines<'a>(
    format: FeedbackFormat,
    common: &'a Common,
    payload: &Payload,
    example: &'a Example,
) -> Result<Vec<Line<'a>>, AppError> {
    let line = |shape| Line {
        shape,
        source: example.source,
        weight: example.weight,
        reason_code: example.reason.code.as_deref(),
        severity: example.severity,
        rationale: example.reason.text.as_deref(),
        common,
    };
    Ok(shapes(format, &payload.body, example)?.into_iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use countersign_store::feedback::Reason;
    use serde_json::json;

    use super::*;

    fn pair() -> Example {
        let call =
            |amount: &str| Call { tool: "pay".into(), arguments: json!({"to": "x", "amount": amount}) };
        Example {
            source: Source::Edit,
            better: Some(call("4")),
            worse: Some(call("5")),
            reason: Reason::default(),
            severity: None,
            weight: 1.0,
        }
    }

    fn shaped(format: FeedbackFormat, example: &Example) -> Vec<Value> {
        let body = json!({"data": {"task": {"id": 1}, "reason": "asked for", "context": null}});
        let shapes = shapes(format, &body, example).unwrap();
        shapes.iter().map(|shape| serde_json::to_value(shape).unwrap()).collect()
    }

    #[test]
    fn a_pair_has_each_shape_of_trl() {
        let prompt = json!([
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "Task: {\"id\":1}\nReason: asked for"},
        ]);
        let said = |amount: &str| {
            let call = format!("{{\"arguments\":{{\"amount\":\"{amount}\",\"to\":\"x\"}},\"tool\":\"pay\"}}");
            json!([{"role": "assistant", "content": call}])
        };
        let dpo = json!({"prompt": prompt, "chosen": said("4"), "rejected": said("5")});
        assert_eq!(shaped(FeedbackFormat::Dpo, &pair()), [dpo]);
        let kto = |amount, label: bool| json!({"prompt": prompt, "completion": said(amount), "label": label});
        assert_eq!(shaped(FeedbackFormat::Kto, &pair()), [kto("4", true), kto("5", false)]);
        let sft = json!({"prompt": prompt, "completion": said("4")});
        assert_eq!(shaped(FeedbackFormat::Sft, &pair()), [sft]);
    }

    #[test]
    fn half_a_pair_has_no_place_where_pairs_are_read() {
        let worse = Example { better: None, ..pair() };
        let lengths = |example| {
            [FeedbackFormat::Dpo, FeedbackFormat::Kto, FeedbackFormat::Sft]
                .map(|format| shaped(format, example).len())
        };
        assert_eq!(lengths(&worse), [0, 1, 0]);
        let better = Example { worse: None, ..pair() };
        assert_eq!(lengths(&better), [0, 1, 1]);
        let same = Example { better: pair().worse, ..pair() };
        assert_eq!(lengths(&same), [0, 1, 0]);
    }

    #[test]
    fn who_says_nothing_has_no_task() {
        assert_eq!(task(&json!({"data": {"tool": "pay"}})), None);
        assert_eq!(task(&json!({"data": {"context": "a call"}})).as_deref(), Some("Context: a call"));
    }
}
