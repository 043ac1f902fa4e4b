//! Actions from a file: proposals for the system, labels for the stand-in humans alone.

use std::{collections::HashMap, fs, path::Path};

use anyhow::Context as _;
use serde_json::Value;

/// What a well-informed human would find of each action, by its id. Never reaches agent, router or policy.
pub(crate) struct Labels {
    correct: HashMap<String, bool>,
}

impl Labels {
    /// Whether the action was right.
    pub(crate) fn correct(&self, id: &str) -> bool {
        self.correct.get(id).copied().unwrap_or(false)
    }
}

/// The proposals of a file, in order, and their labels.
pub(crate) fn read(path: &Path) -> anyhow::Result<(Vec<Value>, Labels)> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let (mut proposals, mut correct) = (Vec::new(), HashMap::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = || format!("{}:{}", path.display(), number + 1);
        let line: Value = serde_json::from_str(line).with_context(at)?;
        let event = countersign_cli::proposal::event(&line).map_err(anyhow::Error::msg).with_context(at)?;
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        correct.insert(id, line["correct"].as_bool().unwrap_or(true));
        proposals.push(event);
    }
    Ok((proposals, Labels { correct }))
}
