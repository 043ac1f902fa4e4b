//! `tools.yaml` as it is written, and its way to a checked [`ToolRegistry`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use super::connector_file::{self, RawConnector, RawEgress};
use super::expr::{COMPENSATION, Expression};
use super::tools::{Connector, Egress, Reversible, Tool, ToolRegistry, budget};
use super::yaml::{self, Problems, line};
use super::{Problem, TOOLS_FILE, policy_file, schema};

const MAX_TOOLS: usize = 500;
const LEAST_TIMEOUT: Duration = Duration::from_millis(10);
const MOST_TIMEOUT: Duration = Duration::from_secs(600);
const MOST_BACKOFF: Duration = Duration::from_secs(60);
const MOST_ATTEMPTS: u32 = 10;
/// Half of the broker's consumer timeout: a delivery is not held for longer.
const MOST_BUDGET: Duration = Duration::from_secs(15 * 60);
const LEAST_WITHIN: Duration = Duration::from_secs(1);
const MOST_WITHIN: Duration = Duration::from_secs(365 * 24 * 3600);
const DEFAULT_BACKOFF: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistry {
    tools: Vec<RawTool>,
    #[serde(default)]
    egress: RawEgress,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTool {
    name: Spanned<String>,
    description: String,
    connector: Spanned<RawConnector>,
    arguments: Spanned<Value>,
    timeout: Spanned<String>,
    retry: Option<Spanned<RawRetry>>,
    idempotent: bool,
    #[serde(default)]
    risk: Risk,
    reversible: Option<RawReversible>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRetry {
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
struct RawReversible {
    by: Spanned<String>,
    arguments: BTreeMap<String, Spanned<String>>,
    within: Spanned<String>,
}

/// The definitions as they are written, for their digests.
#[derive(Deserialize)]
struct Definitions {
    tools: Vec<Value>,
}

/// Parses and checks the text.
pub(super) fn parse(text: &str) -> Result<ToolRegistry, Vec<Problem>> {
    let raw: RawRegistry = yaml::read(TOOLS_FILE, text)?;
    let definitions: Definitions = yaml::read(TOOLS_FILE, text)?;
    let mut reader = Reader { problems: Problems::new(TOOLS_FILE) };
    let egress = connector_file::egress(&mut reader.problems, raw.egress);
    reader.references(&raw.tools);
    let mut tools = BTreeMap::new();
    for (raw, definition) in raw.tools.into_iter().zip(&definitions.tools) {
        if let Some(tool) = reader.tool(raw, definition, &egress) {
            tools.insert(tool.name.clone(), tool);
        }
    }
    reader.problems.unless_found(ToolRegistry { tools, egress })
}

struct Reader {
    problems: Problems,
}

impl Reader {
    /// What tools say about one another.
    fn references(&mut self, tools: &[RawTool]) {
        if let Some(tool) = tools.get(MAX_TOOLS) {
            let message = format!("there are {} tools", tools.len());
            self.problems.add(line(&tool.name), message, format!("keep it within {MAX_TOOLS}"));
        }
        let mut lines = BTreeMap::new();
        for RawTool { name, .. } in tools {
            if let Some(first) = lines.insert(name.value.as_str(), line(name)) {
                let message = format!("the tool {:?} is already defined in line {first}", name.value);
                self.problems.add(line(name), message, "give each tool a name of its own");
            }
        }
        for by in tools.iter().filter_map(|tool| tool.reversible.as_ref().map(|reversible| &reversible.by)) {
            if !lines.contains_key(by.value.as_str()) {
                let message = format!("the compensating tool {:?} is not defined", by.value);
                self.problems.add(line(by), message, "define it under tools:, or write the name of one");
            }
        }
    }

    fn tool(&mut self, raw: RawTool, definition: &Value, egress: &Egress) -> Option<Tool> {
        let name = raw.name.value.clone();
        if !yaml::is_name(&name) {
            let help = "use 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit";
            self.problems.add(line(&raw.name), format!("{name:?} is not the name of a tool"), help);
        }
        let connector = connector_file::connector(&mut self.problems, &raw.connector, egress);
        let timeout = self.problems.duration("timeout", &raw.timeout, LEAST_TIMEOUT, MOST_TIMEOUT);
        let (attempts, backoff) = self.retry(raw.retry, raw.idempotent);
        let longest = budget(timeout, attempts, backoff);
        if longest > MOST_BUDGET {
            let (longest, most) = (seconds(longest), humantime::format_duration(MOST_BUDGET));
            let message = format!("{attempts} attempts and the pauses between them may take {longest}");
            let help = format!("keep it within {most}: a shorter timeout, fewer attempts, a shorter backoff");
            self.problems.add(line(&raw.timeout), message, help);
        }
        let validator = match schema::compile(&raw.arguments.value) {
            Ok(validator) => Some(validator),
            Err((message, help)) => {
                self.problems.add(line(&raw.arguments), format!("arguments of {name:?}: {message}"), help);
                None
            }
        };
        let reversible = raw.reversible.map(|raw| self.reversible(raw));
        let version = self.version(&raw.name, definition);
        let (connector, validator) = connector.zip(validator)?;
        let kind = match connector {
            Connector::Http(_) => "http",
            Connector::Amqp(_) => "amqp",
        };
        let risk = risk_name(raw.risk);
        let facts = json!({
            "name": name, "description": raw.description, "connector": kind, "idempotent": raw.idempotent,
            "reversible": reversible.is_some(), "risk": risk,
        });
        Some(Tool {
            name,
            description: raw.description,
            version: version?,
            connector,
            schema: raw.arguments.value,
            validator,
            timeout,
            attempts,
            backoff,
            idempotent: raw.idempotent,
            risk: risk.to_owned(),
            reversible,
            facts,
        })
    }

    fn version(&mut self, name: &Spanned<String>, definition: &Value) -> Option<String> {
        match countersign_core::json::canonical(definition) {
            Ok(bytes) => {
                let digest = policy_file::hex(&Sha256::digest(bytes));
                Some(format!("sha256:{}", digest.get(..16).unwrap_or(&digest)))
            }
            Err(error) => {
                self.problems.add(line(name), error.to_string(), "use finite numbers only");
                None
            }
        }
    }

    fn retry(&mut self, raw: Option<Spanned<RawRetry>>, idempotent: bool) -> (u32, Duration) {
        let Some(raw) = raw else { return (1, DEFAULT_BACKOFF) };
        let at = line(&raw);
        let RawRetry { attempts, backoff } = raw.value;
        if !idempotent && attempts.value > 1 {
            let message = "retry on a tool that is not idempotent";
            self.problems.add(
                at,
                message,
                "remove it, or write idempotent: true if the tool honours the key",
            );
        }
        if !(1..=MOST_ATTEMPTS).contains(&attempts.value) {
            let message = format!("{} attempts", attempts.value);
            self.problems.add(line(&attempts), message, format!("write 1 to {MOST_ATTEMPTS}"));
        }
        let backoff = backoff.map_or(DEFAULT_BACKOFF, |backoff| {
            self.problems.duration("backoff", &backoff, Duration::from_millis(1), MOST_BACKOFF)
        });
        (attempts.value.clamp(1, MOST_ATTEMPTS), backoff)
    }

    fn reversible(&mut self, raw: RawReversible) -> Reversible {
        let within = self.problems.duration("within", &raw.within, LEAST_WITHIN, MOST_WITHIN);
        let mut arguments = BTreeMap::new();
        for (name, text) in raw.arguments {
            match Expression::compile(&text.value, &COMPENSATION) {
                Ok(expression) => {
                    arguments.insert(name, expression);
                }
                Err(complaints) => complaints.into_iter().for_each(|complaint| {
                    let message = format!("argument {name:?} of {:?}: {}", raw.by.value, complaint.message);
                    self.problems.add(line(&text), message, complaint.help);
                }),
            }
        }
        Reversible { by: raw.by.value, within, arguments }
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
