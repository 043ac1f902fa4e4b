//! The facts about an action that expressions can read.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    expr::{self, Bindings},
    tools::Tool,
};

/// What an evaluation is about: one proposed action and its circumstances.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// `source`, `id`, `tool`, `arguments` and the other fields of the proposal, as one object.
    pub action: &'a Value,
    /// `id`, `version`, `model`, `on_behalf_of`, as one object.
    pub agent: &'a Value,
    /// The registered tool.
    pub tool: &'a Tool,
    /// The time of the evaluation.
    pub now: DateTime<Utc>,
}

impl<'a> Facts<'a> {
    /// Binds those of `action`, `agent`, `tool` and `now` that `used` names.
    pub(crate) fn bind(&self, used: impl Fn(&str) -> bool) -> Result<Bindings<'a>, String> {
        let mut bindings = expr::bindings()?;
        for (name, value) in [("action", self.action), ("agent", self.agent), ("tool", self.tool.facts())] {
            if used(name) {
                expr::bind_fields(&mut bindings, name, value);
            }
        }
        if used("now") {
            expr::bind_time(&mut bindings, "now", self.now);
        }
        Ok(bindings)
    }
}
