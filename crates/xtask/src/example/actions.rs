//! Actions from a file: proposals for the system, and labels only for the simulated humans.

use std::{collections::HashMap, fs, path::Path};

use anyhow::Context as _;
use countersign_core::message::ActionView;
use serde_json::Value;

/// The label of each action by its id. Labels never reach agent, router or policy.
pub(crate) struct Labels {
    labels: HashMap<String, Label>,
}

struct Label {
    correct: bool,
    /// The arguments that it should have had.
    should: Option<Value>,
}

/// A well-informed human's opinion of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Opinion {
    /// It is right.
    Right,
    /// It is wrong and cannot be corrected.
    Wrong,
    /// It would be right with these arguments.
    Should(Value),
}

impl Labels {
    /// The opinion of an action with its current arguments, which a reviewer may have edited.
    pub(crate) fn opinion(&self, action: &ActionView) -> Opinion {
        let (id, arguments) = (action.id.as_str(), action.arguments.get());
        // Compensations undo wrong actions, so they are right.
        if action.compensates.is_some() {
            return Opinion::Right;
        }
        let Some(label) = self.labels.get(id) else { return Opinion::Wrong };
        match &label.should {
            Some(should) if serde_json::from_str::<Value>(arguments).is_ok_and(|now| now == *should) => {
                Opinion::Right
            }
            Some(should) => Opinion::Should(should.clone()),
            None if label.correct => Opinion::Right,
            None => Opinion::Wrong,
        }
    }

    /// Whether the action was wrong and could not be corrected.
    pub(crate) fn wrong(&self, id: &str) -> bool {
        self.labels.get(id).is_none_or(|label| !label.correct && label.should.is_none())
    }
}

/// The proposals of a file, in order, and their labels: `correct`, and `should` if a wrong call can be corrected.
pub(crate) fn read(path: &Path) -> anyhow::Result<(Vec<Value>, Labels)> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let (mut proposals, mut labels) = (Vec::new(), HashMap::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = || format!("{}:{}", path.display(), number + 1);
        let line: Value = serde_json::from_str(line).with_context(at)?;
        let event = countersign_app::proposal::event(&line).map_err(anyhow::Error::msg).with_context(at)?;
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        let label =
            Label { correct: line["correct"].as_bool().unwrap_or(true), should: line.get("should").cloned() };
        labels.insert(id, label);
        proposals.push(event);
    }
    Ok((proposals, Labels { labels }))
}
