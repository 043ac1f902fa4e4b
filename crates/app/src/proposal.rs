//! Proposals from files: CloudEvents, or recorded tool calls.

use chrono::Utc;
use countersign_core::{ids::ActionRef, message::kind};
use serde_json::{Value, json};

/// The proposal of a line: a full event, a proposal's `data`, or a recorded call
/// (`agent`, `model`, `customer`, `goal`, `tool`, `arguments`, `task`, `trial`, `seq`). Other
/// members of a record, above all the label of the call, do not enter the message.
pub fn event(line: &Value) -> Result<Value, String> {
    if line.get("specversion").is_some() {
        return Ok(line.clone());
    }
    let data = if line["agent"].is_object() { line.clone() } else { recorded(line)? };
    let agent = data["agent"]["id"].as_str().ok_or("`agent.id` is missing")?;
    let id = match (line["id"].as_str(), line["task"].as_u64()) {
        (Some(id), _) => id.to_owned(),
        (None, Some(task)) => format!("task-{task}-{}-{}", line["trial"], line["seq"]),
        (None, None) => uuid::Uuid::now_v7().to_string(),
    };
    Ok(json!({
        "specversion": "1.0",
        "id": id,
        "source": ActionRef::source_of(agent),
        "type": kind::PROPOSED,
        "time": Utc::now(),
        "datacontenttype": "application/json",
        "data": data,
    }))
}

fn recorded(line: &Value) -> Result<Value, String> {
    let agent = line["agent"].as_str().ok_or("`agent` is missing")?;
    let tool = line["tool"].as_str().ok_or("`tool` is missing")?;
    let mut data = json!({
        "tool": tool,
        "arguments": line["arguments"],
        "agent": {"id": agent, "version": "1.4.2"},
    });
    if let Some(model) = line["model"].as_str() {
        data["agent"]["model"] = model.into();
    }
    if let Some(customer) = line["customer"].as_str() {
        data["agent"]["on_behalf_of"] = format!("customer:{customer}").into();
    }
    if let Some(goal) = line["goal"].as_str() {
        data["reason"] = goal.into();
    }
    if let Some(task) = line["task"].as_u64() {
        data["task"] = json!({"id": format!("task-{task}-{}", line["trial"])});
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_of_a_recorded_call_never_reaches_the_message() {
        let line = json!({"agent": "a", "model": "m", "task": 1, "trial": 0, "seq": 2, "customer": "mia",
                          "goal": "g", "tool": "t", "arguments": {"x": 1}, "writes": true, "correct": false});
        let event = event(&line).unwrap();
        assert_eq!(event["id"], "task-1-0-2");
        assert_eq!(event["source"], "/agents/a");
        assert!(!event.to_string().contains("correct") && !event.to_string().contains("writes"));
    }
}
