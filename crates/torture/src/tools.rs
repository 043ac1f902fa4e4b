//! The independent tool service: it logs every call and every effect, and is sometimes slow or refuses.

use std::time::Duration;

use countersign_testkit::tools::{Behaviour, Effect};
use serde_json::{Value, json};

use super::{
    clients::dice,
    history::{Event, History},
};

/// The tools' behaviour, determined by action and seed.
pub(crate) struct Tools {
    history: History,
    seed: u64,
    pause: Duration,
}

fn reference(arguments: &Value) -> String {
    arguments["ref"].as_str().unwrap_or_default().to_owned()
}

impl Tools {
    pub(crate) fn new(history: History, seed: u64) -> Self {
        Self { history, seed, pause: Duration::ZERO }
    }
}

impl Behaviour for Tools {
    fn act(&mut self, _tool: &str, arguments: &Value) -> Result<Value, (u16, String)> {
        let dice = dice(self.seed, &format!("{} at the tool", reference(arguments))) % 1_000;
        if dice < 20 {
            return Err((422, "not this one".into()));
        }
        // Some calls take effect and are answered after the executor's timeout.
        self.pause = Duration::from_millis(if dice < 40 { 3_500 } else { dice % 250 });
        Ok(json!("done"))
    }

    fn answers_after(&self) -> Duration {
        self.pause
    }

    fn called(&mut self, call: &Effect, _known: bool) {
        self.history.log(Event::Called {
            id: reference(&call.arguments),
            key: call.key.clone(),
            tool: call.tool.clone(),
            arguments: call.arguments.clone(),
        });
    }

    fn acted(&mut self, effect: &Effect) {
        self.history.log(Event::Acted {
            id: reference(&effect.arguments),
            key: effect.key.clone(),
            tool: effect.tool.clone(),
            arguments: effect.arguments.clone(),
        });
    }
}
