//! The configuration folder: countersign.toml, policy.yaml, tools.yaml, directory.yaml.

use std::{collections::BTreeMap, fs, path::Path};

use countersign_policy::{Configuration, Problem, Sources, add_missing_keys};
use countersign_runtime::settings::Settings;
use serde_json::Value;

use crate::AppError;

/// A configuration folder that was read and checked.
pub struct Folder {
    /// The settings of processes.
    pub settings: Settings,
    /// The governed texts, as they are stored.
    pub sources: Sources,
    /// The same, parsed.
    pub configuration: Configuration,
}

impl Folder {
    /// Reads and checks a folder. The error lists all problems, one a line.
    ///
    /// # Errors
    /// Where a file cannot be read, or the configuration does not check.
    pub fn read(dir: &Path) -> Result<Self, AppError> {
        Self::read_with(dir, |name| std::env::var(name).ok())
    }

    /// The same, with `variables` in place of the environment.
    pub fn read_with(dir: &Path, variables: impl Fn(&str) -> Option<String>) -> Result<Self, AppError> {
        let settings = Settings::read(dir).map_err(|error| AppError::Usage(error.to_string()))?;
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path)
                .map_err(|error| AppError::Usage(format!("{} cannot be read: {error}", path.display())))
        };
        let tools = expand("tools.yaml", &read("tools.yaml")?, variables);
        let sources = Sources {
            policy: read("policy.yaml")?,
            tools: tools.map_err(problems)?,
            directory: read("directory.yaml")?,
        };
        let configuration = Configuration::parse(&sources).map_err(problems)?;
        Ok(Self { settings, sources, configuration })
    }
}

/// Public keys in the form of directory.yaml, by the id of their owner.
pub type Keys = BTreeMap<String, Vec<Value>>;

impl Folder {
    /// The folder with `keys` added for those whose directory entry has none, and the ids of these.
    pub fn enrolled(&self, keys: &Keys) -> Result<(Self, Vec<String>), AppError> {
        let (directory, given) = add_missing_keys(&self.sources.directory, keys).map_err(problems)?;
        let sources = Sources { directory, ..self.sources.clone() };
        let configuration = Configuration::parse(&sources).map_err(problems)?;
        Ok((Self { settings: self.settings.clone(), sources, configuration }, given))
    }
}

/// All problems as one error.
pub(crate) fn problems(problems: Vec<Problem>) -> AppError {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    AppError::Usage(format!("the configuration does not check:\n{}", lines.join("\n")))
}

/// Replaces `${NAME}` by `value(NAME)`, so that addresses can differ between installations with the same files.
fn expand(file: &str, text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, Vec<Problem>> {
    let (mut expanded, mut problems) = (String::with_capacity(text.len()), Vec::new());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("${") {
            expanded += before;
            let Some((name, after)) = after.split_once('}') else {
                rest = after;
                continue;
            };
            match value(name) {
                Some(value) => expanded += &value,
                None => problems.push(Problem {
                    file: file.into(),
                    line: Some(number as u64 + 1),
                    message: format!("the environment variable {name} is not set"),
                    help: format!("set {name}, or write its value here"),
                }),
            }
            rest = after;
        }
        expanded += rest;
    }
    if problems.is_empty() { Ok(expanded) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_replaced_and_a_missing_one_is_named_with_its_line() {
        let value = |name: &str| (name == "URL").then(|| "http://t".to_owned());
        assert_eq!(expand("f", "a: ${URL}/x\n", value).unwrap(), "a: http://t/x\n");
        let problems = expand("tools.yaml", "a: 1\nb: ${OTHER}\n", value).unwrap_err();
        assert!(problems[0].to_string().starts_with("tools.yaml:2"), "{}", problems[0]);
    }
}
