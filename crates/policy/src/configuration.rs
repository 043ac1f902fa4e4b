//! The three texts of a generation, checked alone and against each other.

use countersign_core::sources::Sources;

use crate::{directory::Directory, parse, policy::Policy, problem::Problem, tools::ToolRegistry, warnings};

/// A checked configuration.
#[derive(Debug)]
pub struct Configuration {
    /// The rules that decide which verdict an action gets.
    pub policy: Policy,
    /// The tools that actions may use, and how each is called.
    pub tools: ToolRegistry,
    /// The agents and people who take part.
    pub directory: Directory,
    /// What is valid in it and still hardly meant.
    pub warnings: Vec<Problem>,
}

impl Configuration {
    /// Parses and checks the three texts, each alone and against each other.
    ///
    /// # Errors
    /// Every problem found in any of the texts.
    pub fn parse(sources: &Sources) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut keep = |found: Vec<Problem>| problems.extend(found);
        let directory = parse::directory::parse(&sources.directory).map_err(&mut keep).ok();
        let tools = parse::tools::parse(&sources.tools).map_err(&mut keep).ok();
        let policy = parse::policy::parse(&sources.policy).map_err(&mut keep).ok();
        if let Some((_, references)) = &policy {
            if let Some(directory) = &directory {
                keep(references.check_groups(directory));
            }
            if let Some(tools) = &tools {
                keep(references.check_tools(tools));
            }
        }
        match (policy, tools, directory) {
            (Some((policy, _)), Some(tools), Some(directory)) if problems.is_empty() => {
                let warnings = warnings::of(&policy, &tools, &directory);
                Ok(Self { policy, tools, directory, warnings })
            }
            _ => Err(problems),
        }
    }
}
