//! `tools.yaml`.

use std::{collections::BTreeMap, time::Duration};

use countersign_core::json::canonical;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use super::{
    connector,
    problems::Problems,
    yaml::{self, line},
};
use crate::{
    connector::{Connector, Egress},
    diagnostic::Diagnostic,
    expr::COMPENSATION,
    hex::hex,
    problem::{Problem, TOOLS_FILE},
    schema,
    tools::{self, Tool, ToolRegistry, budget},
};

const MAX_TOOLS: usize = 500;
const LEAST_TIMEOUT: Duration = Duration::from_millis(10);
const MOST_TIMEOUT: Duration = Duration::from_secs(600);
const MOST_BACKOFF: Duration = Duration::from_secs(60);
const MOST_ATTEMPTS: u32 = 10;
/// Half of the broker's consumer timeout, so that a delivery is acknowledged in time.
const MOST_BUDGET: Duration = Duration::from_secs(15 * 60);
const LEAST_WITHIN: Duration = Duration::from_secs(1);
const MOST_WITHIN: Duration = Duration::from_secs(365 * 24 * 3600);
const DEFAULT_BACKOFF: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tools: Vec<ToolEntry>,
    #[serde(default)]
    egress: connector::Egress,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolEntry {
    name: Spanned<String>,
    description: String,
    connector: Spanned<connector::Connector>,
    arguments: Spanned<Value>,
    timeout: Spanned<String>,
    retry: Option<Spanned<Retry>>,
    idempotent: bool,
    #[serde(default)]
    certain_failures: Vec<Spanned<i64>>,
    #[serde(default)]
    risk: Risk,
    reversible: Option<Reversible>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    attempts: Spanned<u32>,
    backoff: Option<Spanned<String>>,
}

#[derive(Deserialize, Serialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Risk {
    Low,
    #[default]
    Moderate,
    High,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reversible {
    by: Spanned<String>,
    arguments: BTreeMap<String, Spanned<String>>,
    within: Spanned<String>,
}

/// The definitions as they are written, from which versions are computed.
#[derive(Deserialize)]
struct Definitions {
    tools: Vec<Value>,
}

/// Parses and checks the text.
pub(crate) fn parse(text: &str) -> Result<ToolRegistry, Vec<Problem>> {
    let document: Document = yaml::read(TOOLS_FILE, text)?;
    let definitions: Definitions = yaml::read(TOOLS_FILE, text)?;
    let mut problems = Problems::new(TOOLS_FILE);
    let egress = document.egress.into_model(&mut problems);
    check_names(&mut problems, &document.tools);
    let mut tools = BTreeMap::new();
    for (entry, definition) in document.tools.into_iter().zip(&definitions.tools) {
        if let Some(tool) = entry.into_model(&mut problems, definition, &egress) {
            tools.insert(tool.name.clone(), tool);
        }
    }
    problems.within_cost();
    problems.unless_found(ToolRegistry { tools, egress })
}

/// Checks that names are unique and that compensating tools exist.
fn check_names(problems: &mut Problems, tools: &[ToolEntry]) {
    if let Some(tool) = tools.get(MAX_TOOLS) {
        let message = format!("there are {} tools", tools.len());
        problems.add(line(&tool.name), message, format!("define at most {MAX_TOOLS}"));
    }
    let mut lines = BTreeMap::new();
    for ToolEntry { name, .. } in tools {
        if let Some(first) = lines.insert(name.value.as_str(), line(name)) {
            let message = format!("the tool {:?} is already defined on line {first}", name.value);
            problems.add(line(name), message, "give each tool a unique name");
        }
    }
    for by in tools.iter().filter_map(|tool| tool.reversible.as_ref().map(|reversible| &reversible.by)) {
        if !lines.contains_key(by.value.as_str()) {
            let message = format!("the compensating tool {:?} is not defined", by.value);
            problems.add(line(by), message, "define it under tools:, or use a defined tool");
        }
    }
}

impl ToolEntry {
    fn into_model(self, problems: &mut Problems, definition: &Value, egress: &Egress) -> Option<Tool> {
        let name = self.name.value.clone();
        if !yaml::is_name(&name) {
            let help = "use 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit";
            problems.add(line(&self.name), format!("{name:?} is not a valid name of a tool"), help);
        }
        let at = line(&self.connector);
        let connector = self.connector.value.into_model(problems, at, egress, &self.certain_failures);
        let timeout = problems.duration("timeout", &self.timeout, LEAST_TIMEOUT, MOST_TIMEOUT);
        let (attempts, backoff) = retry(problems, self.retry, self.idempotent);
        let longest = budget(timeout, attempts, backoff);
        if longest > MOST_BUDGET {
            let (longest, most) = (seconds(longest), humantime::format_duration(MOST_BUDGET));
            let message = format!("{attempts} attempts and the pauses between them can take {longest}");
            let help =
                format!("keep the total within {most}: shorten timeout or backoff, or reduce attempts");
            problems.add(line(&self.timeout), message, help);
        }
        let validator = match schema::compile(&self.arguments.value) {
            Ok(validator) => Some(validator),
            Err(Diagnostic { message, help }) => {
                problems.add(line(&self.arguments), format!("arguments of {name:?}: {message}"), help);
                None
            }
        };
        let reversible = self.reversible.map(|reversible| reversible.into_model(problems));
        let version = version(problems, &self.name, definition);
        let (connector, validator) = connector.zip(validator)?;
        let kind = match connector {
            Connector::Http(_) => "http",
            Connector::Amqp(_) => "amqp",
        };
        let risk = risk_name(self.risk);
        let facts = json!({
            "name": name, "description": self.description, "connector": kind, "idempotent": self.idempotent,
            "reversible": reversible.is_some(), "risk": risk,
        });
        Some(Tool {
            name,
            description: self.description,
            version: version?,
            connector,
            schema: self.arguments.value,
            validator,
            timeout,
            attempts,
            backoff,
            idempotent: self.idempotent,
            risk: risk.to_owned(),
            reversible,
            facts,
        })
    }
}

fn version(problems: &mut Problems, name: &Spanned<String>, definition: &Value) -> Option<String> {
    match canonical(definition) {
        Ok(bytes) => {
            let digest = hex(&Sha256::digest(bytes));
            Some(format!("sha256:{}", digest.get(..16).unwrap_or(&digest)))
        }
        Err(error) => {
            problems.add(line(name), error.to_string(), "use only finite numbers");
            None
        }
    }
}

fn retry(problems: &mut Problems, retry: Option<Spanned<Retry>>, idempotent: bool) -> (u32, Duration) {
    let Some(retry) = retry else { return (1, DEFAULT_BACKOFF) };
    let at = line(&retry);
    let Retry { attempts, backoff } = retry.value;
    if !idempotent && attempts.value > 1 {
        let help = "remove retry, or write idempotent: true if the tool honours the idempotency key";
        problems.add(at, "a tool that is not idempotent has more than one attempt", help);
    }
    if !(1..=MOST_ATTEMPTS).contains(&attempts.value) {
        let message = format!("attempts is {}", attempts.value);
        problems.add(line(&attempts), message, format!("write 1 to {MOST_ATTEMPTS}"));
    }
    let backoff = backoff.map_or(DEFAULT_BACKOFF, |backoff| {
        problems.duration("backoff", &backoff, Duration::from_millis(1), MOST_BACKOFF)
    });
    (attempts.value.clamp(1, MOST_ATTEMPTS), backoff)
}

impl Reversible {
    fn into_model(self, problems: &mut Problems) -> tools::Reversible {
        let within = problems.duration("within", &self.within, LEAST_WITHIN, MOST_WITHIN);
        let mut arguments = BTreeMap::new();
        for (name, text) in self.arguments {
            let context = format!("argument {name:?} of {:?}", self.by.value);
            if let Some(expression) = problems.expression(&context, &text, &COMPENSATION) {
                arguments.insert(name, expression);
            }
        }
        tools::Reversible { by: self.by.value, within, arguments }
    }
}

fn risk_name(risk: Risk) -> &'static str {
    match risk {
        Risk::Low => "low",
        Risk::Moderate => "moderate",
        Risk::High => "high",
    }
}

fn seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}
